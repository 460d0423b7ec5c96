// code[row] = center of the class whose sub-classes have the largest log-sum-exp; equal: the lower class.
//
// Layout: logits [n, n_subclasses] with classes as runs, centers [n_classes, n_bytes]. Thread map: a block of 4 warps a
// row, one warp per class in turn; each warp keeps its best, and the block chooses among the warps'. Logits are read once, the
// least possible; classes of fewer than 32 sub-classes leave lanes idle, which reading from memory hides. NaN in a class ranks it
// last. Class offsets are clamped, so that no value of theirs leaves the row. Limits: 2^31 rows (grid).
#include "../core/center_codes_from_logits.h"

#include <type_traits>

#include "max_sum.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

template <class R>
struct Best {
  R score;
  int64_t index;  // a class; -1: none so far
};

template <class T>
__global__ void __launch_bounds__(kThreads) center_kernel(const T* __restrict__ logits, int64_t n_subclasses,
                                                          const int64_t* __restrict__ class_offsets, int64_t n_classes,
                                                          const uint8_t* __restrict__ centers, int64_t n_bytes,
                                                          uint8_t* __restrict__ codes) {
  using R = Real<T>;
  auto* of_warps = dynamic_shared<Best<R>>();
  const int64_t row = blockIdx.x;
  const R lowest = -static_cast<R>(INFINITY);
  Best<R> best{lowest, -1};
  for (int64_t c = warp(); c < n_classes; c += kWarps) {
    const int64_t first = clamped_offset(class_offsets[c], n_subclasses);
    const int64_t last = clamped_offset(class_offsets[c + 1], n_subclasses);
    const MaxSum<R> all = warp_reduce(
        thread_max_sum(logits + row * n_subclasses, last, first + lane(), kWarp), MergeMaxSum{});
    R score = all.largest + log_of(all.sum);
    if (all.largest == lowest || all.largest == -lowest) {  // the sum says nothing then: inf - inf is NaN as well
      bool nan = false;
      for (int64_t j = first + lane(); j < last; j += kWarp) {
        const R value = to_real(logits[row * n_subclasses + j]);
        nan |= value != value;
      }
      score = __any_sync(kFullMask, nan) ? static_cast<R>(NAN) : all.largest;
    }
    if (score > best.score || (best.index < 0 && score == score)) best = {score, c};
  }
  if (lane() == 0) of_warps[warp()] = best;
  __syncthreads();
  best = of_warps[0];
  for (int w = 1; w < kWarps; ++w) {
    const Best<R> other = of_warps[w];
    if (other.index < 0) continue;
    const bool lower = other.score == best.score && other.index < best.index;
    if (best.index < 0 || other.score > best.score || lower) best = other;
  }
  const int64_t chosen = best.index < 0 ? 0 : best.index;
  for (int64_t byte = threadIdx.x; byte < n_bytes; byte += kThreads) {
    codes[row * n_bytes + byte] = centers[chosen * n_bytes + byte];
  }
}

}  // namespace

int center_codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses,
                             const int64_t* class_offsets, int64_t n_classes, const uint8_t* centers, int64_t n_bytes,
                             uint8_t* codes, void* stream) {
  if (n == 0) return 0;
  return with_floats(dtype, logits, [&](auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    return launch(center_kernel<T>, grid_of(n), dim3(kThreads), kWarps * sizeof(Best<Real<T>>), stream, typed,
                  n_subclasses, class_offsets, n_classes, centers, n_bytes, codes);
  });
}

}  // namespace dshc::cuda
