// Weights exp(logit - largest logit) as integers, whose sums are exact (weighted_codes.h), and what must be known of a row
// before: its largest logit, and the sum of the weights relative to it.
#pragma once
#include "prefetch.h"
#include "vectors.h"

namespace dshc::cuda {

// The weights of R as integers: their bytes are `kBytes` factors; `kTiles` bytes of the code a turn, as accumulators allow.
template <class R>
struct Fixed {
  using type = uint32_t;
  static constexpr int kBytes = 4, kTiles = 8, kBits = 31;
};
template <>
struct Fixed<double> {
  using type = unsigned long long;
  static constexpr int kBytes = 8, kTiles = 4, kBits = 62;
};

// To nearest; 0 for NaN.
__device__ __forceinline__ uint32_t fixed_of(float value) {
#ifdef DSHC_SIMT
  return value > 0 ? static_cast<uint32_t>(std::nearbyint(value)) : 0;
#else
  return __float2uint_rn(value);
#endif
}
__device__ __forceinline__ unsigned long long fixed_of(double value) {
  return value > 0 ? static_cast<unsigned long long>(value + 0.5) : 0;
}

// The power of two that a weight, at most 1, is multiplied by, so that weights of sum `sum` stay below 2^bits together.
__device__ __forceinline__ float scale_of(float sum, int bits) {
  // 2^(e - 127) <= sum, and 2^(bits - (e - 127) - 1) times it is below 2^bits.
  const int exponent = static_cast<int>(__float_as_uint(sum) >> 23 & 255) - 127;
  return __uint_as_float(static_cast<uint32_t>(bits - 1 - exponent + 127) << 23);
}
__device__ __forceinline__ double scale_of(double sum, int bits) {
  const int64_t exponent = (__double_as_longlong(sum) >> 52 & 2047) - 1023;
  return __longlong_as_double((bits - 1 - exponent + 1023) << 52);
}

// exp(value - top); 1 for the largest, which may be infinite.
template <class R>
__device__ __forceinline__ R weight_of(R value, R top) {
  return value == top ? R{1} : quick_exp(value - top);
}

// The largest value, its lowest index (-1: NaNs alone), and the sum of the weights relative to it.
template <class R>
struct Leader {
  R top;
  int index;
  R sum;
};

template <class R>
__device__ __forceinline__ Leader<R> shuffle_xor(Leader<R> value, int offset) {
  return {shuffle_xor(value.top, offset), shuffle_xor(value.index, offset), shuffle_xor(value.sum, offset)};
}

struct MergeLeader {
  template <class R>
  __device__ __forceinline__ Leader<R> operator()(Leader<R> a, Leader<R> b) const {
    if (b.index < 0) return a;
    if (a.index < 0) return b;
    const bool b_first = b.top > a.top || (b.top == a.top && b.index < a.index);
    const Leader<R> first = b_first ? b : a, other = b_first ? a : b;
    return {first.top, first.index, first.sum + other.sum * weight_of(other.top, first.top)};
  }
};

// So far ahead of a warp's loads rows are called into the second-level cache: 8 warps a multiprocessor, which is what the
// accumulators leave room for, do not keep memory busy with what their registers hold.
constexpr int kCalledBytes = 6144;

// Of columns first .. last - 1, by a warp. NaN is passed over.
template <class T>
__device__ __forceinline__ Leader<Real<T>> leader_of(const T* row, int first, int last) {
  using R = Real<T>;
  constexpr int kTogether = 16 / (static_cast<int>(sizeof(R)) / 4);
  constexpr int kCalled = kCalledBytes / static_cast<int>(sizeof(T));
  const R nan = static_cast<R>(NAN);
  Leader<R> found{-static_cast<R>(INFINITY), -1, 0};
  for (int at = first + lane(); at - lane() < last; at += kTogether * kWarp) {
    // A batch is 32 times 64 bytes, or 32 of 16-bit values.
    const int called = at - lane() + kCalled + kTogether * lane();
    if (called < last) call_into_cache(row + called);
    R values[kTogether];
    R largest = nan;
#pragma unroll
    for (int u = 0; u < kTogether; ++u) values[u] = at + u * kWarp < last ? to_real(row[at + u * kWarp]) : nan;
#pragma unroll
    for (int u = 0; u < kTogether; ++u) largest = larger_of(largest, values[u]);
    if (largest > found.top || (found.index < 0 && largest == largest)) {
      found.sum = found.index < 0 ? R{0} : found.sum * quick_exp(found.top - largest);
      found.top = largest;
#pragma unroll
      for (int u = kTogether - 1; u >= 0; --u) found.index = values[u] == largest ? at + u * kWarp : found.index;
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) found.sum += larger_of(weight_of(values[u], found.top), R{0});
  }
  return warp_reduce(found, MergeLeader{});
}

}  // namespace dshc::cuda
