// A row of values 16 bytes at a time: what lies between the first and the last 16-byte boundary in it. A kernel that has no
// instructions to spare keeps the sixteen bytes as they are loaded, in four words, and takes two short floats out of each.
#pragma once
#include <cstring>
#include <type_traits>

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

// ---- sixteen bytes as four words ----

// T's -inf all over.
template <class T>
__device__ __forceinline__ uint4 lowest_words() {
  const Values<T> values = vector_of(from_real<T>(-static_cast<Real<T>>(INFINITY)));
  uint4 bits;
  memcpy(&bits, &values, sizeof bits);
  return bits;
}

template <class T>
__device__ __forceinline__ void reals_of(const uint4& bits, Real<T> (&reals)[kPerVector<T>]) {
  Values<T> values;
  memcpy(&values, &bits, sizeof bits);
#pragma unroll
  for (int i = 0; i < kPerVector<T>; ++i) reals[i] = to_real(values.at[i]);
}
// One instruction a value; taken out as 16 bits first, the upper one of a word would need two.
template <>
__device__ __forceinline__ void reals_of<__nv_bfloat16>(const uint4& bits, float (&reals)[8]) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    reals[2 * i] = __uint_as_float(words[i] << 16);
    reals[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
  }
}

template <class T>
__device__ __forceinline__ uint4 words_of(const Real<T> (&reals)[kPerVector<T>]) {
#ifndef DSHC_SIMT
  if constexpr (sizeof(T) == 2) {  // two conversions in one instruction
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (std::is_same_v<T, __half>) {
        const __half2 two = __floats2half2_rn(reals[2 * i], reals[2 * i + 1]);
        memcpy(&words[i], &two, 4);
      } else {
        const __nv_bfloat162 two = __floats2bfloat162_rn(reals[2 * i], reals[2 * i + 1]);
        memcpy(&words[i], &two, 4);
      }
    }
    return uint4{words[0], words[1], words[2], words[3]};
  } else
#endif
  {
    Values<T> values;
#pragma unroll
    for (int i = 0; i < kPerVector<T>; ++i) values.at[i] = from_real<T>(reals[i]);
    uint4 bits;
    memcpy(&bits, &values, sizeof bits);
    return bits;
  }
}

// The larger of each of two short floats; NaN is passed over.
template <class T>
__device__ __forceinline__ uint32_t larger_pair(uint32_t a, uint32_t b) {
  static_assert(sizeof(T) == 2, "a word holds two");
#ifdef DSHC_SIMT
  T of_a[2], of_b[2];
  memcpy(of_a, &a, 4);
  memcpy(of_b, &b, 4);
  for (int i = 0; i < 2; ++i) {
    const float x = to_real(of_a[i]), y = to_real(of_b[i]);
    if (y > x || x != x) of_a[i] = of_b[i];
  }
  memcpy(&a, of_a, 4);
  return a;
#else
  using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
  Pair of_a, of_b;
  memcpy(&of_a, &a, 4);
  memcpy(&of_b, &b, 4);
  of_a = __hmax2(of_a, of_b);
  memcpy(&a, &of_a, 4);
  return a;
#endif
}

// The largest of all values and `largest`; NaN is passed over.
template <class T, int kCount>
__device__ __forceinline__ Real<T> largest_of(const uint4 (&vectors)[kCount], Real<T> largest) {
  if constexpr (sizeof(T) == 2) {
    uint32_t found[kCount];
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      found[u] = larger_pair<T>(larger_pair<T>(vectors[u].x, vectors[u].y), larger_pair<T>(vectors[u].z, vectors[u].w));
    }
#pragma unroll
    for (int u = 1; u < kCount; ++u) found[0] = larger_pair<T>(found[0], found[u]);
    T two[2];
    memcpy(two, &found[0], 4);
    return larger_of(larger_of(largest, to_real(two[0])), to_real(two[1]));
  } else {
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      Real<T> reals[kPerVector<T>], of_vector;
      reals_of<T>(vectors[u], reals);
      of_vector = reals[0];
#pragma unroll
      for (int i = 1; i < kPerVector<T>; ++i) of_vector = larger_of(of_vector, reals[i]);
      largest = larger_of(largest, of_vector);
    }
    return largest;
  }
}

}  // namespace dshc::cuda
