// The k best items of each query by (rank value, index), for any k from 1 to n.
//
// Layout: counts and indices [n_query, k]. Two ways. One pass with a falling bound (collect.h) for codes of at most 32 bytes
// (128 on tensor cores) and k <= 10,240 (2,048 where a block gets no more than 48 KB of shared memory); else two passes, a
// counting sort (ordered_items.cu), which costs the same for every k. A small database takes the two passes too: they are four
// launches instead of seven. Where `allowed` may leave fewer than k items, the
// rest is index -1 and the worst count. Heaps or sorted lists in registers would bound k; a sort of all pairs would move
// them several times through memory.
#include "../core/hamming_topk.h"

#include "collect.h"
#include "ordered_items.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kSmallDatabase = int64_t{1} << 16;
constexpr int64_t kItemsPerAnswer = 32;  // a sample of 16 k must be well below the database
// A block alone sorts the thousands of answers of one query; two passes over so few pairs are done before it.
constexpr int64_t kManyAnswers = 2048, kPairsOfMany = int64_t{1} << 25;

__global__ void fill_missing_kernel(int64_t n, int32_t count, int32_t* __restrict__ counts, int64_t* __restrict__ indices) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  counts[i] = count;
  indices[i] = -1;
}

bool collects(const Pairs& pairs, int64_t k, TopkKernel kernel) {
  if (kernel == TopkKernel::rows || !can_collect(pairs, k, collecting_kernel(kernel, pairs))) return false;
  if (kernel != TopkKernel::automatic) return true;
  if (k > kManyAnswers && pairs.n_query * pairs.n_db < kPairsOfMany) return false;
  return pairs.n_db >= kSmallDatabase && pairs.n_db >= kItemsPerAnswer * k;
}

}  // namespace

int64_t hamming_topk_workspace_bytes(const Pairs& pairs, int64_t k, TopkKernel kernel) {
  if (!collects(pairs, k, kernel)) return ordered_workspace_bytes(pairs);
  return collect_workspace_bytes(pairs, k, collecting_kernel(kernel, pairs), {});
}

int hamming_topk(const Pairs& pairs, int64_t k, TopkKernel kernel, int32_t* counts, int64_t* indices, void* workspace,
                 void* stream) {
  if (pairs.n_query == 0) return 0;
  if (collects(pairs, k, kernel)) {
    return collect_topk(pairs, k, collecting_kernel(kernel, pairs), {}, counts, indices, workspace, stream);
  }
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
