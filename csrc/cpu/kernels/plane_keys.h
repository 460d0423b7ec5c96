// Keys of what the filter by bit planes found. Like floats.h it keeps to an anonymous namespace and off inline functions of
// the standard library.
#pragma once
#include "plane_filter.h"

namespace dshc::cpu {
namespace {

template <int kBits>
inline __attribute__((always_inline)) uint64_t plane_distance(const PlaneBlock& block, int64_t i, const uint64_t* code) {
  if (kBits == 32) {
    uint32_t word;
    __builtin_memcpy(&word, block.words + 4 * i, 4);
    return static_cast<uint64_t>(__builtin_popcount(word ^ static_cast<uint32_t>(code[0])));
  }
  uint64_t count = 0;
  for (int w = 0; w < kBits / 64; ++w) {
    uint64_t word;
    __builtin_memcpy(&word, block.words + 8 * (w * block.column_items + i), 8);
    count += static_cast<uint64_t>(__builtin_popcountll(word ^ code[w]));
  }
  return count;
}

// Appends those of the 64 items from `at` on that have a bit.
template <int kBits>
inline __attribute__((always_inline)) Key* append_keys(const PlaneBlock& block, int64_t at, uint64_t bits,
                                                       const uint64_t* code, Key* found) {
  for (; bits; bits &= bits - 1) {
    const int64_t i = at + __builtin_ctzll(bits);
    *found++ = make_key(plane_distance<kBits>(block, i, code), block.first + static_cast<uint64_t>(i));
  }
  return found;
}

}  // namespace
}  // namespace dshc::cpu
