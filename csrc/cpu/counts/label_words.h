// Multi-hot labels as words of bits: how many labels two items share.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../core/types.h"

namespace dshc::cpu {

inline int32_t count_bits(uint64_t word) {
#if defined(__GNUC__)
  return __builtin_popcountll(word);
#else
  int32_t n = 0;
  for (; word != 0; word &= word - 1) ++n;
  return n;
#endif
}

inline int32_t shared_labels(const uint64_t* a, const uint64_t* b, int32_t n_words) {
  int32_t shared = 0;
  for (int32_t w = 0; w < n_words; ++w) shared += count_bits(a[w] & b[w]);
  return shared;
}

inline int32_t label_count(const uint64_t* words, int32_t n_words) { return shared_labels(words, words, n_words); }

// For the items first + positions[i]: how many labels each shares with the query.
inline void append_shared_labels(const Relevance& relevance, int64_t query, int64_t first, const uint32_t* positions, int64_t n,
                                 std::vector<uint16_t>& to) {
  const int32_t n_words = relevance.n_words;
  const uint64_t* mine = relevance.query_words + query * n_words;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t item = first + static_cast<int64_t>(positions[i]);
    to.push_back(static_cast<uint16_t>(shared_labels(mine, relevance.database_words + item * n_words, n_words)));
  }
}

}  // namespace dshc::cpu
