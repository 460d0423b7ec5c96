// The operands of the matrix product of weighted_codes.h on their way: codes and logits as they are loaded, and bytes of four
// words turned into words.
#pragma once
#include "vectors.h"

namespace dshc::cuda {

constexpr int kWeighedColumns = 8;  // of a lane and row

// kTiles bytes of a code from `byte` on; 0 past its end. `wide`: words lie on their boundaries.
template <int kTiles>
struct CodePart {
  uint32_t words[kTiles / 4];

  __device__ __forceinline__ void load(const uint8_t* code, int64_t byte, int64_t n_bytes, bool wide) {
    const int left = n_bytes - byte < kTiles ? static_cast<int>(n_bytes - byte) : kTiles;
    code += byte;
#pragma unroll
    for (int p = 0; p < kTiles / 4; ++p) words[p] = 0;
    if (wide) {
#pragma unroll
      for (int p = 0; p < kTiles / 4; ++p) {
        if (4 * p < left) words[p] = reinterpret_cast<const uint32_t*>(code)[p];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        if (i < left) words[i / 4] |= static_cast<uint32_t>(code[i]) << (8 * (i % 4));
      }
    }
  }
};

// 8 values as the words that were loaded, so that nothing waits for them before they are used.
template <class T>
struct Columns {
  static constexpr int kWords = kWeighedColumns * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords];

  __device__ __forceinline__ Real<T> at(int i) const {
    T values[kWeighedColumns];
    memcpy(values, words, sizeof values);
    return to_real(values[i]);
  }
};

// 8 values from `from` on, of which `left` (maybe none) belong to the row; NaN for the others. kLoad bytes a load.
template <class T, int kLoad>
__device__ __forceinline__ void load_columns(const T* from, int left, Columns<T>& values) {
  constexpr int kWords = Columns<T>::kWords;
#pragma unroll
  for (int w = 0; w < kWords; ++w) values.words[w] = 0x7FFFFFFFu;  // NaN in every type
  if (left >= kWeighedColumns) {
    if constexpr (kLoad == 16) {
#pragma unroll
      for (int w = 0; w < kWords; w += 4) {
        const uint4 word = reinterpret_cast<const uint4*>(from)[w / 4];
        values.words[w] = word.x;
        values.words[w + 1] = word.y;
        values.words[w + 2] = word.z;
        values.words[w + 3] = word.w;
      }
    } else if constexpr (kLoad == 8) {
#pragma unroll
      for (int w = 0; w < kWords; w += 2) {
        const uint2 word = reinterpret_cast<const uint2*>(from)[w / 2];
        values.words[w] = word.x;
        values.words[w + 1] = word.y;
      }
    } else if constexpr (kLoad == 4) {
#pragma unroll
      for (int w = 0; w < kWords; ++w) values.words[w] = reinterpret_cast<const uint32_t*>(from)[w];
    } else {
      memcpy(values.words, from, sizeof values.words);
    }
  } else if (left > 0) {
    T some[kWeighedColumns];
#pragma unroll
    for (int i = 0; i < kWeighedColumns; ++i) some[i] = i < left ? from[i] : from_real<T>(static_cast<Real<T>>(NAN));
    memcpy(values.words, some, sizeof values.words);
  }
}

// Byte p of each of four words, as a word.
__device__ __forceinline__ uint32_t take_bytes(uint32_t low, uint32_t high, uint32_t selector) {
#ifdef DSHC_SIMT
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  uint32_t taken = 0;
  for (int i = 0; i < 4; ++i) taken |= static_cast<uint32_t>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return taken;
#else
  return __byte_perm(low, high, selector);
#endif
}
__device__ __forceinline__ void transpose_bytes(const uint32_t (&words)[4], uint32_t (&bytes)[4]) {
  const uint32_t low01 = take_bytes(words[0], words[1], 0x5140), low23 = take_bytes(words[2], words[3], 0x5140);
  const uint32_t high01 = take_bytes(words[0], words[1], 0x7362), high23 = take_bytes(words[2], words[3], 0x7362);
  bytes[0] = take_bytes(low01, low23, 0x5410);
  bytes[1] = take_bytes(low01, low23, 0x7632);
  bytes[2] = take_bytes(high01, high23, 0x5410);
  bytes[3] = take_bytes(high01, high23, 0x7632);
}

}  // namespace dshc::cuda
