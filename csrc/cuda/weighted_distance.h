// Distances of codes from real-valued outputs: tables in shared memory, one query a block, one item a thread.
//
// A nibble's table has 16 floats in 16 banks, so that lanes with different nibbles never collide. Codes past kNibbleBytes have
// tables of two bits, which need half of that memory and twice the look-ups. Both add in the order of core/asymmetric_topk.h.
#pragma once
#include <cstring>

#include "../core/asymmetric_topk.h"
#include "launch.h"

namespace dshc::cuda {

constexpr int kWeightedThreads = 256;
constexpr int kNibbleBytes = 256;  // of a code; more would not leave 8 KB of the 48 KB that every block gets

inline size_t table_shared_bytes(int32_t n_bytes) {
  return static_cast<size_t>(n_bytes) * (n_bytes <= kNibbleBytes ? 32 : 16) * sizeof(float);
}

// What bits 2 * pair and 2 * pair + 1 of a code add, for each of their four values. outputs: [n_bits].
__device__ __forceinline__ void pair_sums(const AsymmetricPairs& pairs, const float* outputs, int pair, float (&sums)[4]) {
  float weights[2];
  unsigned signs = 0;
#pragma unroll
  for (int bit = 0; bit < 2; ++bit) {
    const float output = 2 * pair + bit < pairs.n_bits ? outputs[2 * pair + bit] : 0.0f;
    if (output > 0.0f) signs |= 1u << bit;
    weights[bit] = output > 0.0f ? output : output < 0.0f ? -output : 0.0f;  // a NaN is neither
  }
#pragma unroll
  for (unsigned code = 0; code < 4; ++code) {
    const unsigned differing = code ^ signs;
    sums[code] = (differing & 1 ? weights[0] : 0.0f) + (differing & 2 ? weights[1] : 0.0f);
  }
}

// By the whole block, which has to meet before the tables are read.
template <bool kNibbles>
__device__ __forceinline__ void make_tables(const AsymmetricPairs& pairs, const float* outputs, float* tables) {
  const int entries = kNibbles ? 2 * pairs.n_bytes : 4 * pairs.n_bytes;
  for (int i = static_cast<int>(threadIdx.x); i < entries; i += kWeightedThreads) {
    float low[4], high[4];
    if (kNibbles) {
      pair_sums(pairs, outputs, 2 * i, low);
      pair_sums(pairs, outputs, 2 * i + 1, high);
#pragma unroll
      for (int code = 0; code < 16; ++code) tables[16 * i + code] = low[code & 3] + high[code >> 2];
    } else {
      pair_sums(pairs, outputs, i, low);
#pragma unroll
      for (int code = 0; code < 4; ++code) tables[4 * i + code] = low[code];
    }
  }
}

template <bool kNibbles>
__device__ __forceinline__ float sum_of_byte(const float* tables, int byte, unsigned code) {
  if (kNibbles) return tables[32 * byte + (code & 15)] + tables[32 * byte + 16 + (code >> 4)];
  const float* table = tables + 16 * byte;
  return (table[code & 3] + table[4 + (code >> 2 & 3)]) + (table[8 + (code >> 4 & 3)] + table[12 + (code >> 6)]);
}

// The bits of an item's distance, which ascend with it.
template <class Word, bool kNibbles>
__device__ __forceinline__ uint32_t distance_bits(const AsymmetricPairs& pairs, const float* tables, int64_t item) {
  const auto* code = reinterpret_cast<const Word*>(pairs.database + item * pairs.stride);
  constexpr int kBytes = static_cast<int>(sizeof(Word));
  float sum = 0.0f;
  for (int word = 0; word < pairs.n_bytes / kBytes; ++word) {
    const Word here = code[word];
#pragma unroll
    for (int b = 0; b < kBytes; ++b) {
      sum += sum_of_byte<kNibbles>(tables, word * kBytes + b, static_cast<unsigned>(here >> (8 * b) & 0xFF));
    }
  }
  uint32_t bits;
  memcpy(&bits, &sum, sizeof bits);
  return bits;
}

// work(Word{}, Nibbles<..>{}) with the widest word that codes are made of where they lie.
template <bool kIs> struct Nibbles { static constexpr bool value = kIs; };

template <class Work>
int with_weighted_word(const AsymmetricPairs& pairs, Work work) {
  const auto all = reinterpret_cast<uintptr_t>(pairs.database) | static_cast<uintptr_t>(pairs.stride) |
                   static_cast<uintptr_t>(pairs.n_bytes);
  const auto with_tables = [&](auto word) {
    return pairs.n_bytes <= kNibbleBytes ? work(word, Nibbles<true>{}) : work(word, Nibbles<false>{});
  };
  if (all % 8 == 0) return with_tables(uint64_t{0});
  if (all % 4 == 0) return with_tables(uint32_t{0});
  return with_tables(uint8_t{0});
}

}  // namespace dshc::cuda
