// Largest logit and sum of exp(logit - largest), in one pass: what soft-max and log-sum-exp are made of.
#pragma once
#include "floats.h"
#include "warp.h"

namespace dshc::cuda {

template <class R>
struct MaxSum {
  R largest, sum;
};

template <class R>
__device__ __forceinline__ MaxSum<R> shuffle_xor(MaxSum<R> value, int offset) {
  return {shuffle_xor(value.largest, offset), shuffle_xor(value.sum, offset)};
}

// The factor is not computed where it is 1: of two infinities the difference would be NaN.
struct MergeMaxSum {
  template <class R>
  __device__ __forceinline__ MaxSum<R> operator()(MaxSum<R> a, MaxSum<R> b) const {
    const R largest = a.largest > b.largest ? a.largest : b.largest;
    const R of_a = a.largest == largest ? a.sum : a.sum * exp_of(a.largest - largest);
    const R of_b = b.largest == largest ? b.sum : b.sum * exp_of(b.largest - largest);
    return {largest, of_a + of_b};
  }
};

// An entry of class_offsets, which nobody has checked, as one that stays in its row.
__device__ __forceinline__ int64_t clamped_offset(int64_t offset, int64_t n_subclasses) {
  if (offset < 0) return 0;
  return offset < n_subclasses ? offset : n_subclasses;
}

// One thread's share of values[0, n): start, start + step, ... A running sum is scaled where a larger value comes: five
// exponentials for four values, and no second reading. A NaN makes the sum NaN; values of -inf alone give (-inf, 0).
template <class T>
__device__ __forceinline__ MaxSum<Real<T>> thread_max_sum(const T* values, int64_t n, int64_t start, int64_t step) {
  using R = Real<T>;
  constexpr int kTogether = 4;
  const R lowest = -static_cast<R>(INFINITY);
  MaxSum<R> found{lowest, 0};
  for (int64_t j = start; j < n; j += kTogether * step) {
    R part[kTogether];
    R largest = found.largest;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      part[i] = j + i * step < n ? to_real(values[j + i * step]) : lowest;
      largest = part[i] > largest ? part[i] : largest;
    }
    if (largest != found.largest) found.sum *= exp_of(found.largest - largest);
    found.largest = largest;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (part[i] == lowest) continue;  // adds nothing; with nothing else so far, -inf - -inf would be NaN
      found.sum += exp_of(part[i] - largest);
    }
  }
  return found;
}

}  // namespace dshc::cuda
