// Warp and block reductions by shuffles.
#pragma once
#include "launch.h"

namespace dshc::cuda {

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ __forceinline__ unsigned lanes_below() { return (1u << lane()) - 1; }

__device__ __forceinline__ int shuffle_xor(int value, int offset) { return __shfl_xor_sync(kFullMask, value, offset); }
__device__ __forceinline__ float shuffle_xor(float value, int offset) {
  return __shfl_xor_sync(kFullMask, value, offset);
}
__device__ __forceinline__ double shuffle_xor(double value, int offset) {
  return __shfl_xor_sync(kFullMask, value, offset);
}
__device__ __forceinline__ int64_t shuffle_xor(int64_t value, int offset) {
  return static_cast<int64_t>(__shfl_xor_sync(kFullMask, static_cast<long long>(value), offset));
}

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

// `merge` is associative and commutative; every lane gets the result. A type of one's own needs a shuffle_xor beside it.
template <class T, class Merge>
__device__ __forceinline__ T warp_reduce(T value, Merge merge) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value = merge(value, shuffle_xor(value, offset));
  return value;
}

// Sum of the lanes below this one.
__device__ __forceinline__ int64_t warp_sum_below(int64_t value) {
  int64_t sum = value;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int64_t other = __shfl_up_sync(kFullMask, static_cast<long long>(sum), offset);
    if (lane() >= offset) sum += other;
  }
  return sum - value;
}

// Product of the lanes up to this one.
__device__ __forceinline__ double warp_product(double value) {
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const double other = __shfl_up_sync(kFullMask, value, offset);
    if (lane() >= offset) value *= other;
  }
  return value;
}

// Merges over the whole block; every thread gets the result. `scratch` holds a T for each warp; free to use again after.
template <class T, class Merge>
__device__ __forceinline__ T block_reduce(T value, Merge merge, T* scratch) {
  value = warp_reduce(value, merge);
  if (lane() == 0) scratch[warp()] = value;
  __syncthreads();
  value = scratch[0];
  for (int w = 1; w < static_cast<int>(blockDim.x) / kWarp; ++w) value = merge(value, scratch[w]);
  __syncthreads();
  return value;
}

}  // namespace dshc::cuda
