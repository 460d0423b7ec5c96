// Codes at listed places of the database against one query. Each is a cache miss where the database is large, so that they are
// fetched long before; the loop has no branch that would wait for one. Measured on 100,000,000 codes of 64 bits: 31 ns a code
// without fetching ahead, 6 ns with; on 1,000,000: 2.0 and 0.8 ns.
#pragma once
#include <cstdint>
#include <cstring>

#include "filter.h"

namespace dshc::cpu {
namespace {

inline void fetch_ahead(const uint8_t* codes, int32_t stride, const uint32_t* item) {
  const uint8_t* code = codes + static_cast<int64_t>(item[kListedAhead]) * stride;
  for (int32_t at = 0; at < stride; at += 64) __builtin_prefetch(code + at);
}

template <class Lanes, int kWords>  // kWords 0: n_words says
int64_t near_codes_of(const uint8_t* query, const uint8_t* codes, int32_t n_words, const uint32_t* items, int64_t n,
                      int32_t bound, Key* found) {
  const int32_t words = kWords ? kWords : n_words;
  int64_t n_found = 0;
  for (int64_t i = 0; i < n; ++i) {
    fetch_ahead(codes, 8 * words, items + i);
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
        fetch_ahead(codes, 4, items + i);
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
