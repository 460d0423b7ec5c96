// The k best items of each query by (rank value, index), for any k from 1 to n.
//
// Layout: counts and indices [n_query, k]. Kernels, thread map and cost: ordered_items.cu. Where `allowed` may leave fewer
// than k items, the answer is first filled with index -1 and the worst count: 12 bytes an entry more, and only then.
// Heaps or sorted lists in registers would bound k; a sort of all pairs would move them several times through memory.
#include "../core/hamming_topk.h"

#include "ordered_items.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void fill_missing_kernel(int64_t n, int32_t count, int32_t* __restrict__ counts, int64_t* __restrict__ indices) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  counts[i] = count;
  indices[i] = -1;
}

}  // namespace

int64_t hamming_topk_workspace_bytes(const Pairs& pairs) { return ordered_workspace_bytes(pairs); }

int hamming_topk(const Pairs& pairs, int64_t k, int32_t* counts, int64_t* indices, void* workspace, void* stream) {
  if (pairs.n_query == 0) return 0;
  if (pairs.allowed) {
    const int64_t n = pairs.n_query * k;
    const int32_t missing = pairs.score == Score::hamming ? INT32_MAX : -1;
    const int status = launch(fill_missing_kernel, grid_of(divide_up(n, kThreads)), dim3(kThreads), 0, stream, n, missing,
                              counts, indices);
    if (status) return status;
  }
  return write_ordered(pairs, {nullptr, k, 8 * pairs.n_bytes + 1, indices, counts}, workspace, stream);
}

}  // namespace dshc::cuda
