// Codes of up to 32 bytes in registers or shared memory, as 32-bit words, zero bits behind their end.
#pragma once
#include "../core/types.h"
#include "launch.h"

namespace dshc::cuda {

constexpr int vector_bytes(int n_words) { return n_words >= 4 ? 16 : 4 * n_words; }

template <int kWords>
struct alignas(vector_bytes(kWords)) Code {
  uint32_t words[kWords];
};

// work(Words<n>{}) with the number of words, 1, 2, 4 or 8, that a code of n_bytes <= 32 fits in.
template <int kWords> struct Words { static constexpr int value = kWords; };

template <class Work>
int with_code_words(int n_bytes, Work work) {
  if (n_bytes <= 4) return work(Words<1>{});
  if (n_bytes <= 8) return work(Words<2>{});
  if (n_bytes <= 16) return work(Words<4>{});
  return work(Words<8>{});
}

// Whether rows of these codes may be read 16 bytes at a time.
inline bool reads_vectors(const uint8_t* codes, int n_bytes) {
  return reinterpret_cast<uintptr_t>(codes) % 16 == 0 && (n_bytes == 4 || n_bytes == 8 || n_bytes == 16 || n_bytes == 32);
}

template <int kWords>
__device__ __forceinline__ Code<kWords> load_code_bytes(const uint8_t* code, int n_bytes) {
  Code<kWords> to;
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    uint32_t word = 0;
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      if (4 * w + b < n_bytes) word |= static_cast<uint32_t>(__ldg(code + 4 * w + b)) << (8 * b);
    }
    to.words[w] = word;
  }
  return to;
}

// kItems codes of one thread of a block of kThreads, which takes kItems * kThreads codes from `first` on. A thread has
// kTogether consecutive codes, 16 bytes, then the ones kThreads * kTogether further on: item_of() says which is which.
template <int kWords, int kItems, int kThreads>
struct ThreadCodes {
  static constexpr int kTogether = kWords >= 4 ? 1 : (4 / kWords < kItems ? 4 / kWords : kItems);
  static_assert(kItems % kTogether == 0, "whole vectors");
  Code<kWords> codes[kItems];

  __device__ static __forceinline__ int item_of(int i) {
    return i / kTogether * (kThreads * kTogether) + static_cast<int>(threadIdx.x) * kTogether + i % kTogether;
  }

  // Codes from `end` on are not read and zero.
  __device__ __forceinline__ void load(const uint8_t* database, int n_bytes, bool vectors, int64_t first, int64_t end) {
#pragma unroll
    for (int i = 0; i < kItems; i += kTogether) {
      const int64_t item = first + item_of(i);
      if (vectors && kWords * kTogether % 4 == 0 && item + kTogether <= end) {
        const auto* from = reinterpret_cast<const uint4*>(database + item * (4 * kWords));
#pragma unroll
        for (int v = 0; v < kWords * kTogether / 4; ++v) {
          const uint4 four = __ldg(from + v);
          const uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
          for (int w = 0; w < 4; ++w) codes[i + (4 * v + w) / kWords].words[(4 * v + w) % kWords] = words[w];
        }
        continue;
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        codes[i + j] = item + j < end ? load_code_bytes<kWords>(database + (item + j) * n_bytes, n_bytes) : Code<kWords>{};
      }
    }
  }
};

}  // namespace dshc::cuda
