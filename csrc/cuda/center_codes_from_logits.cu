// code[row] = center of the class whose sub-classes have the largest log-sum-exp; equal: the lower class.
//
// Layout: logits [n, n_subclasses] with classes as runs, centers [n_classes, n_bytes]. Thread map: 1 to 8 warps a row, as many
// as fill the GPU, each with a run of classes; the lanes of a warp share a class, or four at once where these have at most 32
// sub-classes each. The offsets of 31 classes come in one load. What a lane has of a class, up to 12 logits (float64: 6), is
// loaded together and held: the largest first, then one exponential a logit and the sum; longer classes in pieces whose sums
// are merged. Meanwhile the classes after it are called into the cache. Lane i keeps the sum of the i-th class, so that there
// is one logarithm and one choice for 31 classes. The row's first warp chooses among its warps' best. Logits are read once, the
// least possible; where classes are short the ten shuffles of each are the bound. NaN in a class ranks it last. Class offsets
// are clamped, so that no value of theirs leaves the row. Limits: 2^31 rows (grid).
#include "../core/center_codes_from_logits.h"

#include <type_traits>

#include "max_sum.h"
#include "prefetch.h"

namespace dshc::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kTogether = 4;
template <class T> constexpr int kHeld = sizeof(T) == 8 ? 6 : 12;
template <class T> constexpr int kBlocks = sizeof(T) == 8 ? 2 : 4;  // a multiprocessor: what registers allow

template <class R>
struct Best {
  R score;
  int64_t index;  // a class; -1: none so far

  // Of a higher class.
  __device__ __forceinline__ void take(R other, int64_t of_class) {
    if (other > score || (index < 0 && other == other)) *this = {other, of_class};
  }
};

template <class R>
__device__ __forceinline__ Best<R> shuffle_xor(Best<R> value, int offset) {
  return {cuda::shuffle_xor(value.score, offset), cuda::shuffle_xor(value.index, offset)};
}

struct MergeBest {
  template <class R>
  __device__ __forceinline__ Best<R> operator()(Best<R> a, Best<R> b) const {
    if (b.index < 0) return a;
    return a.index < 0 || b.score > a.score || (b.score == a.score && b.index < a.index) ? b : a;
  }
};

// Of kClasses runs of at most kValues * 32 values, side by side. Where the largest is infinite, the sum is 0, and NaN if a
// value is.
template <int kClasses, int kValues, class T>
__device__ __forceinline__ void max_sums(const T* const (&from)[kClasses], const int64_t (&n)[kClasses],
                                         MaxSum<Real<T>> (&found)[kClasses]) {
  using R = Real<T>;
  const R lowest = -static_cast<R>(INFINITY);
  R values[kClasses][kValues];
#pragma unroll
  for (int c = 0; c < kClasses; ++c) {
    const int left = static_cast<int>(n[c]) - lane();
    const T* const mine = from[c] + lane();
#pragma unroll
    for (int u = 0; u < kValues; ++u) values[c][u] = u * kWarp < left ? to_real(mine[u * kWarp]) : lowest;
  }
#pragma unroll
  for (int c = 0; c < kClasses; ++c) {
    found[c].largest = values[c][0];
#pragma unroll
    for (int u = 1; u < kValues; ++u) found[c].largest = larger_of(found[c].largest, values[c][u]);
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (int c = 0; c < kClasses; ++c) {
      found[c].largest = larger_of(found[c].largest, cuda::shuffle_xor(found[c].largest, offset));
    }
  }
#pragma unroll
  for (int c = 0; c < kClasses; ++c) {
    // The same in all lanes, but for a NaN, which is all there is then.
    const bool finite = found[c].largest - found[c].largest == 0;
    const R shift = finite ? found[c].largest : R{0};
    found[c].sum = 0;
#pragma unroll
    for (int u = 0; u < kValues; ++u) {
      // Of an infinite value, with no shift, 0 or infinite, and NaN of a NaN.
      found[c].sum += quick_exp(values[c][u] - shift);
    }
    if (!finite && found[c].sum == found[c].sum) found[c].sum = 0;
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (int c = 0; c < kClasses; ++c) found[c].sum += cuda::shuffle_xor(found[c].sum, offset);
  }
}

template <class R>
__device__ __forceinline__ R score_of(MaxSum<R> all) {
  if (all.sum != all.sum) return all.sum;
  return all.largest - all.largest == 0 ? all.largest + log_of(all.sum) : all.largest;
}

// Of a run of n values. There are `left` to the end of the row: what follows, as much as the run, is called ahead.
template <class T>
__device__ __forceinline__ MaxSum<Real<T>> max_sum_of_run(const T* from, int64_t n, int64_t left) {
  MaxSum<Real<T>> all[1];
  if (n <= kTogether * kWarp) {
    max_sums<1, kTogether>({from}, {n}, all);
    return all[0];
  }
  constexpr int64_t kPiece = kHeld<T> * kWarp;
  constexpr int kCalled = 2048 / static_cast<int>(sizeof(T)), kOfLane = 64 / static_cast<int>(sizeof(T));
  for (int64_t at = kOfLane * lane(); at < n && at + kCalled < left; at += kOfLane * kWarp) call_into_cache(from + kCalled + at);
  max_sums<1, kHeld<T>>({from}, {n < kPiece ? n : kPiece}, all);
  for (int64_t at = kPiece; at < n; at += kPiece) {
    MaxSum<Real<T>> more[1];
    max_sums<1, kHeld<T>>({from + at}, {n - at < kPiece ? n - at : kPiece}, more);
    all[0] = MergeMaxSum{}(all[0], more[0]);
  }
  return all[0];
}

// The best of classes begin .. end - 1, by a warp.
template <class T>
__device__ __forceinline__ Best<Real<T>> best_class(const T* row, int64_t n_subclasses, const int64_t* class_offsets,
                                                    int64_t begin, int64_t end) {
  using R = Real<T>;
  constexpr int kLoaded = kWarp - 1;  // classes whose first and last offsets are in one load
  Best<R> best{-static_cast<R>(INFINITY), -1};
  for (int64_t c0 = begin; c0 < end; c0 += kLoaded) {
    const int count = end - c0 < kLoaded ? static_cast<int>(end - c0) : kLoaded;
    const int64_t first = clamped_offset(class_offsets[c0 + min(lane(), count)], n_subclasses);
    const int64_t last = __shfl_down_sync(kFullMask, static_cast<long long>(first), 1);
    const int64_t size = last > first ? last - first : 0;
    // Those past the last are short.
    const unsigned short_ones = __ballot_sync(kFullMask, size <= kWarp || lane() >= count);
    MaxSum<R> mine{-static_cast<R>(INFINITY), 0};  // of class c0 + lane
    for (int i = 0; i < count;) {
      if (i + 1 < count && (~(short_ones >> i) & ((1u << kTogether) - 1)) == 0) {
        const T* from[kTogether];
        int64_t n[kTogether];
        MaxSum<R> found[kTogether];
#pragma unroll
        for (int c = 0; c < kTogether; ++c) {
          from[c] = row + __shfl_sync(kFullMask, static_cast<long long>(first), i + c);
          n[c] = __shfl_sync(kFullMask, static_cast<int>(size), i + c);
          n[c] = i + c < count ? n[c] : 0;
        }
        max_sums<kTogether, 1>(from, n, found);
#pragma unroll
        for (int c = 0; c < kTogether; ++c) {
          if (lane() == i + c) mine = found[c];
        }
        i += kTogether;
      } else {
        const int64_t start = __shfl_sync(kFullMask, static_cast<long long>(first), i);
        const int64_t n = __shfl_sync(kFullMask, static_cast<long long>(size), i);
        const MaxSum<R> found = max_sum_of_run(row + start, n, n_subclasses - start);
        if (lane() == i) mine = found;
        ++i;
      }
    }
    if (lane() < count) best.take(score_of(mine), c0 + lane());
  }
  return warp_reduce(best, MergeBest{});
}

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    center_kernel(const T* __restrict__ logits, int64_t n, int64_t n_subclasses, const int64_t* __restrict__ class_offsets,
                  int64_t n_classes, const uint8_t* __restrict__ centers, int64_t n_bytes, int warps_a_row,
                  uint8_t* __restrict__ codes) {
  using R = Real<T>;
  auto* of_warps = dynamic_shared<Best<R>>();
  const int part = warp() % warps_a_row;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kWarps / warps_a_row) + warp() / warps_a_row;
  Best<R> best{0, -1};
  if (row < n) {
    best = best_class(logits + row * n_subclasses, n_subclasses, class_offsets, n_classes * part / warps_a_row,
                      n_classes * (part + 1) / warps_a_row);
  }
  if (warps_a_row > 1) {
    if (lane() == 0) of_warps[warp()] = best;
    __syncthreads();
    for (int other = 1; part == 0 && other < warps_a_row; ++other) {
      best = MergeBest{}(best, of_warps[warp() + other]);
    }
  }
  if (row >= n || part != 0) return;
  const int64_t chosen = best.index < 0 ? 0 : best.index;
  for (int64_t byte = lane(); byte < n_bytes; byte += kWarp) {
    codes[row * n_bytes + byte] = centers[chosen * n_bytes + byte];
  }
}

// Enough for two times 32 a multiprocessor, so that their ends do not meet, but none with less than a thousand logits.
int warps_for(int64_t n, int64_t n_subclasses, int64_t n_classes) {
  int warps = 1;
  while (warps < kWarps && n * warps < 64 * multiprocessors() && n_subclasses > 1024 * warps && n_classes > warps) warps *= 2;
  return warps;
}

}  // namespace

int center_codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses,
                             const int64_t* class_offsets, int64_t n_classes, const uint8_t* centers, int64_t n_bytes,
                             uint8_t* codes, void* stream) {
  if (n == 0) return 0;
  return with_floats(dtype, logits, [&](auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    const int warps = warps_for(n, n_subclasses, n_classes);
    return launch(center_kernel<T>, grid_of(divide_up(n, kWarps / warps)), dim3(kThreads), kWarps * sizeof(Best<Real<T>>),
                  stream, typed, n, n_subclasses, class_offsets, n_classes, centers, n_bytes, warps, codes);
  });
}

}  // namespace dshc::cuda
