// Codes at listed places of the database against one query. One loop without a branch, so that the loads of many codes, each
// of them a miss where the database is large, are under way together.
#pragma once
#include <cstdint>
#include <cstring>

#include "filter.h"

namespace dshc::cpu {
namespace {

template <class Lanes, int kWords>  // kWords 0: n_words says
int64_t near_codes_of(const uint8_t* query, const uint8_t* codes, int32_t n_words, const uint32_t* items, int64_t n,
                      int32_t bound, Key* found) {
  const int32_t words = kWords ? kWords : n_words;
  int64_t n_found = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t* code = codes + static_cast<int64_t>(items[i]) * 8 * words;
    uint32_t distance = 0;
    for (int32_t w = 0; w < words; ++w) {
      uint64_t a, b;
      std::memcpy(&a, query + 8 * w, 8);
      std::memcpy(&b, code + 8 * w, 8);
      distance += static_cast<uint32_t>(Lanes::popcount(a ^ b));
    }
    found[n_found] = make_key(distance, items[i]);
    n_found += static_cast<int32_t>(distance) < bound;
  }
  return n_found;
}

template <class Lanes>
int64_t near_codes_by_word(const uint8_t* query, const uint8_t* codes, int32_t stride, const uint32_t* items, int64_t n,
                           int32_t bound, Key* found) {
  switch (stride) {
    case 4: {
      uint32_t a;
      std::memcpy(&a, query, 4);
      int64_t n_found = 0;
      for (int64_t i = 0; i < n; ++i) {
        uint32_t b;
        std::memcpy(&b, codes + static_cast<int64_t>(items[i]) * 4, 4);
        const uint32_t distance = static_cast<uint32_t>(Lanes::popcount(a ^ b));
        found[n_found] = make_key(distance, items[i]);
        n_found += static_cast<int32_t>(distance) < bound;
      }
      return n_found;
    }
    case 8: return near_codes_of<Lanes, 1>(query, codes, 1, items, n, bound, found);
    case 16: return near_codes_of<Lanes, 2>(query, codes, 2, items, n, bound, found);
    case 32: return near_codes_of<Lanes, 4>(query, codes, 4, items, n, bound, found);
    default: return near_codes_of<Lanes, 0>(query, codes, stride / 8, items, n, bound, found);
  }
}

}  // namespace
}  // namespace dshc::cpu
