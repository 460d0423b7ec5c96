// Pairs of a few codes that every instruction set finds alike; like floats.h it keeps to an anonymous namespace and off inline
// functions of the standard library.
#pragma once
#include <cstdint>

#include "rank_rows.h"

namespace dshc::cpu {
namespace {

// kWords: of a code; 0: any number.
template <int kWords, class PopCount>
inline int64_t pairs_below_of(const uint8_t* codes, int64_t n, int32_t stride, uint16_t limit, ClosePair* pairs,
                              PopCount popcount) {
  int64_t found = 0;
  const int32_t n_words = kWords > 0 ? kWords : stride / 8;
  for (int64_t a = 0; a + 1 < n; ++a) {
    const uint8_t* code = codes + a * 8 * n_words;
    for (int64_t b = a + 1; b < n; ++b) {
      const uint8_t* other = codes + b * 8 * n_words;
      uint32_t count = 0;
      for (int32_t w = 0; w < n_words; ++w) count += popcount(load_word(code + 8 * w) ^ load_word(other + 8 * w));
      // Written in any case: hardly a pair is close, and no branch asks.
      pairs[found] = {static_cast<uint16_t>(a), static_cast<uint16_t>(b), static_cast<uint16_t>(count)};
      found += count < limit;
    }
  }
  return found;
}

template <class PopCount>
inline int64_t pairs_below_by_word(const uint8_t* codes, int64_t n, int32_t stride, uint16_t limit, ClosePair* pairs,
                                   PopCount popcount) {
  switch (stride) {
    case 8: return pairs_below_of<1>(codes, n, stride, limit, pairs, popcount);
    case 16: return pairs_below_of<2>(codes, n, stride, limit, pairs, popcount);
    case 32: return pairs_below_of<4>(codes, n, stride, limit, pairs, popcount);
    default: return pairs_below_of<0>(codes, n, stride, limit, pairs, popcount);
  }
}

}  // namespace
}  // namespace dshc::cpu
