// A block per query sorts by 8 bits of the distance at a time, four times over: stable, so that equal distances stay in order
// of index. A pass counts digits, then moves tile after tile of as many items as there are threads to their places. Any k.
// Moved: 24 bytes an item and pass, between the answer's own place and the workspace; one block does it, whatever their number.
#include "nearest.h"
#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kSortDigits = kThreads;  // a thread each

// Where sorting moves items between: the answer's own place and the workspace.
struct Items {
  float* distances;
  int64_t* indices;

  __device__ __forceinline__ uint32_t bits(int64_t i) const {
    uint32_t bits;
    memcpy(&bits, distances + i, sizeof bits);
    return bits;
  }
};

// Four passes end where they began.
__global__ void __launch_bounds__(kThreads) sort_kernel(NearestPlan plan, NearestWorkspace work, float* distances,
                                                        int64_t* indices) {
  auto* starts = dynamic_shared<int64_t>();                        // [kSortDigits] the place of a digit's next item
  auto* counts = reinterpret_cast<unsigned*>(starts + kSortDigits);  // [kWarps, kSortDigits]
  const int64_t query = blockIdx.x, first_place = (plan.first_query + query) * plan.k;
  const NearestSelection selection = work.selections[query];
  Items from{distances + first_place, indices + first_place};
  Items to{reinterpret_cast<float*>(work.bits) + query * plan.k, work.indices + query * plan.k};
  const int64_t n = selection.n_below;
  const int mine = static_cast<int>(threadIdx.x);
  if (selection.bits == kBeyondAll) {
    for (int64_t i = n + mine; i < plan.k; i += kThreads) {
      from.distances[i] = INFINITY;
      from.indices[i] = -1;
    }
  }
  if (n < 2) return;  // the whole block
  for (int shift = 0; shift < 32; shift += 8) {
    for (int w = 0; w < kWarps; ++w) counts[w * kSortDigits + mine] = 0;
    __syncthreads();
    for (int64_t i = mine; i < n; i += kThreads) atomicAdd(counts + (from.bits(i) >> shift & (kSortDigits - 1)), 1u);
    __syncthreads();
    if (warp() == 0) {
      int64_t before = 0;
      for (int first = 0; first < kSortDigits; first += kWarp) {
        const int64_t count = counts[first + lane()];
        const int64_t place = before + warp_sum_below(count);
        starts[first + lane()] = place;
        before = __shfl_sync(kFullMask, static_cast<long long>(place + count), kWarp - 1);
      }
    }
    __syncthreads();
    counts[mine] = 0;
    for (int64_t tile = 0; tile < n; tile += kThreads) {
      __syncthreads();  // the counts are zero, and the starts written
      const int64_t i = tile + mine;
      const uint32_t bits = i < n ? from.bits(i) : 0;
      const unsigned digit = i < n ? bits >> shift & (kSortDigits - 1) : static_cast<unsigned>(kSortDigits);
      const unsigned equal = __match_any_sync(kFullMask, digit);
      const int before = __popc(equal & lanes_below());
      if (i < n && before == 0) counts[warp() * kSortDigits + digit] = static_cast<unsigned>(__popc(equal));
      __syncthreads();
      if (i < n) {
        int64_t place = starts[digit] + before;
        for (int w = 0; w < warp(); ++w) place += counts[w * kSortDigits + digit];
        to.distances[place] = from.distances[i];
        to.indices[place] = from.indices[i];
      }
      __syncthreads();  // the counts are read
      for (int w = 0; w < kWarps; ++w) {
        starts[mine] += counts[w * kSortDigits + mine];
        counts[w * kSortDigits + mine] = 0;
      }
    }
    __syncthreads();  // what was moved is there for all
    const Items other = from;
    from = to;
    to = other;
  }
}

}  // namespace

int sort_nearest(const NearestPlan& plan, const NearestWorkspace& work, float* distances, int64_t* indices, Stream stream) {
  return launch(sort_kernel, grid_of(plan.n_queries), dim3(kThreads),
                kSortDigits * (sizeof(int64_t) + kWarps * sizeof(unsigned)), stream, plan, work, distances, indices);
}

}  // namespace dshc::cuda
