// A row of values 16 bytes at a time: what lies between the first and the last 16-byte boundary in it.
#pragma once
#include <cstring>

#include "floats.h"

namespace dshc::cuda {

template <class T> constexpr int kPerVector = static_cast<int>(16 / sizeof(T));

template <class T>
struct Values {
  T at[kPerVector<T>];
};

template <class T>
__device__ __forceinline__ Values<T> load_vector(const T* from) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  Values<T> values;
  memcpy(&values, &bits, sizeof bits);
  return values;
}

template <class T>
__device__ __forceinline__ void store_vector(T* to, const Values<T>& values) {
  uint4 bits;
  memcpy(&bits, &values, sizeof bits);
  *reinterpret_cast<uint4*>(to) = bits;
}

// Read, or written, for the last time by this kernel: the first to leave the cache.
template <class T>
__device__ __forceinline__ Values<T> load_vector_once(const T* from) {
  const uint4 bits = __ldcs(reinterpret_cast<const uint4*>(from));
  Values<T> values;
  memcpy(&values, &bits, sizeof bits);
  return values;
}

template <class T>
__device__ __forceinline__ void store_vector_once(T* to, const Values<T>& values) {
  uint4 bits;
  memcpy(&bits, &values, sizeof bits);
  __stcs(reinterpret_cast<uint4*>(to), bits);
}

template <class T>
__device__ __forceinline__ Values<T> vector_of(T value) {
  Values<T> values;
#pragma unroll
  for (int i = 0; i < kPerVector<T>; ++i) values.at[i] = value;
  return values;
}

// How many of a row's values come before its first 16-byte boundary.
template <class T>
__device__ __forceinline__ int64_t values_before_boundary(const T* row, int64_t n) {
  const int64_t bytes = (16 - static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) % 16)) % 16;
  const int64_t before = bytes / static_cast<int64_t>(sizeof(T));
  return before < n ? before : n;
}

template <class T>
__device__ __forceinline__ bool same_boundaries(const T* a, const T* b) {
  return (reinterpret_cast<uintptr_t>(a) - reinterpret_cast<uintptr_t>(b)) % 16 == 0;
}

}  // namespace dshc::cuda
