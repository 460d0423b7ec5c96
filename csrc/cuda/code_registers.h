// Codes of up to 32 bytes in registers or shared memory, as 32-bit words, zero bits behind their end.
#pragma once
#include "../core/types.h"
#include "code_words.h"
#include "launch.h"

namespace dshc::cuda {

constexpr int vector_bytes(int n_words) { return n_words >= 4 ? 16 : 4 * n_words; }

template <int kWords>
struct alignas(vector_bytes(kWords)) Code {
  uint32_t words[kWords];
};

// Whether rows of these codes may be read 16 bytes at a time.
inline bool reads_vectors(const uint8_t* codes, int n_bytes) {
  return reinterpret_cast<uintptr_t>(codes) % 16 == 0 && (n_bytes == 4 || n_bytes == 8 || n_bytes == 16 || n_bytes == 32);
}

// Whether rows of these codes may be read by words.
__device__ __forceinline__ bool has_whole_words(const uint8_t* codes, int n_bytes) {
  return (reinterpret_cast<uintptr_t>(codes) | static_cast<uintptr_t>(n_bytes)) % 4 == 0;
}

// Word w of a code, byte by byte: a call, because inlined for every item it would take the registers of what is fast.
static __device__ __noinline__ uint32_t load_word_bytes(const uint8_t* code, int w, int n_bytes) {
  uint32_t word = 0;
  for (int b = 0; b < 4 && 4 * w + b < n_bytes; ++b) word |= static_cast<uint32_t>(__ldg(code + 4 * w + b)) << (8 * b);
  return word;
}

// Word w of a code; `whole`: has_whole_words().
__device__ __forceinline__ uint32_t load_word(const uint8_t* code, int w, int n_bytes, bool whole) {
  if (whole) return 4 * w < n_bytes ? __ldg(reinterpret_cast<const uint32_t*>(code) + w) : 0;
  return load_word_bytes(code, w, n_bytes);
}

template <int kWords>
__device__ __forceinline__ Code<kWords> load_code(const uint8_t* code, int n_bytes, bool whole) {
  Code<kWords> to;
#pragma unroll
  for (int w = 0; w < kWords; ++w) to.words[w] = load_word(code, w, n_bytes, whole);
  return to;
}

// kItems codes of one thread of a block of kThreads, which takes kItems * kThreads codes. A thread has kTogether consecutive codes, 16 bytes, then the ones kThreads * kTogether further on: item_of() says which is which.
// If kVectors (reads_vectors() says whether that is possible), by loads of 16 bytes.
template <int kWords, int kItems, int kThreads, bool kVectors>
struct ThreadCodes {
  static constexpr int kTogether = kWords >= 4 ? 1 : 4 / kWords;
  static_assert(kItems % kTogether == 0, "whole vectors");
  Code<kWords> codes[kItems];

  __device__ static __forceinline__ int item_of(int i) {
    return i / kTogether * (kThreads * kTogether) + static_cast<int>(threadIdx.x) * kTogether + i % kTogether;
  }

  // From the block's first code on, of which `there` exist; the others are zero.
  __device__ __forceinline__ void load(const uint8_t* first, int n_bytes, bool whole, int there) {
#pragma unroll
    for (int i = 0; i < kItems; i += kTogether) {
      const int item = item_of(i);
      if constexpr (kVectors) {
        load_vectors(reinterpret_cast<const uint32_t*>(first + item * (4 * kWords)), i, there - item);
      } else {
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
          codes[i + j] = Code<kWords>{};
          if (item + j < there) codes[i + j] = load_code<kWords>(first + (item + j) * n_bytes, n_bytes, whole);
        }
      }
    }
  }

 private:
  // The codes from i on that lie together, of which `there` exist.
  __device__ __forceinline__ void load_vectors(const uint32_t* from, int i, int there) {
#pragma unroll
    for (int v = 0; v < kWords * kTogether / 4; ++v) {
      uint4 four = make_uint4(0, 0, 0, 0);
      if (there >= kTogether) {
        four = __ldg(reinterpret_cast<const uint4*>(from) + v);
      } else {  // at the database's end
        const int n = there * kWords - 4 * v;
        if (n > 0) four.x = __ldg(from + 4 * v);
        if (n > 1) four.y = __ldg(from + 4 * v + 1);
        if (n > 2) four.z = __ldg(from + 4 * v + 2);
      }
      const uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int w = 0; w < 4; ++w) codes[i + (4 * v + w) / kWords].words[(4 * v + w) % kWords] = words[w];
    }
  }
};

}  // namespace dshc::cuda
