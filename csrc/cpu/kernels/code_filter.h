// The filters that read codes one after the other as they lie, for a few queries, which do not make up for word columns: what is
// read once is read from far, and a column more is a stream more; of codes that fill vectors for any number. Included as popcount_filter.h is, whose `Lanes` they take.
#pragma once
#include <cstdint>
#include <cstring>

#include "popcount_filter.h"

namespace dshc::cpu {
namespace {

constexpr int32_t kMostForCodes = 2;  // queries; measured

template <class Lanes, Score score, int kWords>
inline Key* filter_codes_from(const FilterPass& pass, int q, int64_t i, Key* found) {
  const int32_t n_words = kWords ? kWords : pass.n_words;
  const uint8_t *query = pass.queries[q], *allowed = pass.allowed[q], *code = pass.columns + i * 8 * n_words;
  const uint64_t bound = pass.bounds[q];
  for (; i < pass.n; ++i, code += 8 * n_words) {
    __builtin_prefetch(code + kAhead);
    uint64_t value = 0;
    for (int32_t w = 0; w < n_words; ++w) {
      value += Lanes::popcount(filter_combine<score>(word_at<uint64_t>(code, w), word_at<uint64_t>(query, w)));
    }
    if (value >= bound) continue;
    *found = make_key(value, pass.first + static_cast<uint64_t>(i));
    found += !allowed || (allowed[i >> 3] >> (i & 7) & 1);
  }
  return found;
}

template <class Lanes, Score score, int kWords>
void filter_codes_of(FilterPass& pass) {
  for (int q = 0; q < pass.n_queries; ++q) pass.found[q] = filter_codes_from<Lanes, score, kWords>(pass, q, 0, pass.found[q]);
}

template <class Lanes, int kWords>
void filter_codes(FilterPass& pass) {
  pass.score == Score::hamming ? filter_codes_of<Lanes, Score::hamming, kWords>(pass)
                               : filter_codes_of<Lanes, Score::overlap, kWords>(pass);
}

template <class Lanes, int kWords>
constexpr FilterRow codes_row(int32_t max_queries) {
  return {"codes", 8 * kWords, kBothScores, kNoMaxBound, 0, max_queries, kPopcountBlock, nullptr, filter_codes<Lanes, kWords>,
          nullptr, true};
}

// The same of codes that end inside a word: the last one is read as the eight bytes that end where the code does, and what
// belongs to the word before is shifted out.
template <class Lanes, Score score, int kWhole>
Key* filter_ragged_from(const FilterPass& pass, int q, int64_t i, Key* found) {
  const int32_t n_bytes = pass.n_bytes, n_whole = kWhole ? kWhole : n_bytes / 8, shift = 8 * (8 - n_bytes % 8);
  const uint8_t *query = pass.queries[q], *allowed = pass.allowed[q], *code = pass.columns + i * n_bytes;
  const uint64_t bound = pass.bounds[q];
  uint64_t end;  // of the query
  std::memcpy(&end, query + n_bytes - 8, 8);
  for (; i < pass.n; ++i, code += n_bytes) {
    __builtin_prefetch(code + kAhead);
    uint64_t last;
    std::memcpy(&last, code + n_bytes - 8, 8);
    uint64_t value = Lanes::popcount(alone(filter_combine<score>(last, end) >> shift));
    for (int32_t w = 0; w < n_whole; ++w) {
      value += Lanes::popcount(alone(filter_combine<score>(word_at<uint64_t>(code, w), word_at<uint64_t>(query, w))));
    }
    if (value >= bound) continue;
    *found = make_key(value, pass.first + static_cast<uint64_t>(i));
    found += !allowed || (allowed[i >> 3] >> (i & 7) & 1);
  }
  return found;
}

template <class Lanes, Score score>
void filter_ragged_of(FilterPass& pass) {
  auto* filter = filter_ragged_from<Lanes, score, 0>;
  if (pass.n_bytes < 16) filter = filter_ragged_from<Lanes, score, 1>;
  else if (pass.n_bytes < 24) filter = filter_ragged_from<Lanes, score, 2>;
  else if (pass.n_bytes < 32) filter = filter_ragged_from<Lanes, score, 3>;
  for (int q = 0; q < pass.n_queries; ++q) pass.found[q] = filter(pass, q, 0, pass.found[q]);
}

template <class Lanes>
void filter_ragged(FilterPass& pass) {
  pass.score == Score::hamming ? filter_ragged_of<Lanes, Score::hamming>(pass) : filter_ragged_of<Lanes, Score::overlap>(pass);
}

template <class Lanes>
constexpr FilterRow ragged_row() {
  return {"codes", 0, kBothScores, kNoMaxBound, 0, kMostForCodes, kPopcountBlock, nullptr, filter_ragged<Lanes>, nullptr,
          true, kRagged};
}

// Several codes at a time. A `Codes`, made of a query and the bytes of a code, gives: kItems codes in vectors, and kAlone more in
// general registers, which have units of their own; values(code) of the first ones, as 64-bit lanes in any order; in_order(values);
// alone(code) of one; write_keys(values in order, those in `mask`, key of the first with value 0, to), which may write kItems keys
// and returns the end of those that count; kBytes of a code, or 0: n_bytes says; kReadsOn: it reads past the end of a code, no
// further than the next one goes.
template <class Lanes, class Codes, Score score>
Key* filter_together_from(const FilterPass& pass, int q, int64_t* next) {
  constexpr int kStep = Codes::kItems + Codes::kAlone;
  const Codes codes(pass.queries[q], pass.n_bytes);
  const int64_t n_bytes = Codes::kBytes ? Codes::kBytes : pass.n_bytes, n = pass.n - (Codes::kReadsOn ? 1 : 0);
  const uint8_t *allowed = pass.allowed[q], *code = pass.columns;
  const uint64_t limit = pass.bounds[q];
  const auto bound = Lanes::splat(limit);
  Key* found = pass.found[q];
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep, code += kStep * n_bytes) {
    prefetch(code + kAhead, kStep * n_bytes);
    const auto values = codes.template values<score>(code);
    uint64_t others[Codes::kAlone + 1], least = limit;
#pragma GCC unroll 4
    for (int j = 0; j < Codes::kAlone; ++j) {
      others[j] = codes.template alone<score>(code + (Codes::kItems + j) * n_bytes);
      least = others[j] < least ? others[j] : least;
    }
    if (Lanes::below(values, bound) == 0 && least == limit) continue;
    const auto ordered = Codes::in_order(values);
    const auto passes = [&](int64_t item) { return !allowed || (allowed[item >> 3] >> (item & 7) & 1); };
    uint32_t mask = Lanes::below(ordered, bound);
    if (allowed) {
      for (int j = 0; j < Codes::kItems; ++j) mask &= ~(static_cast<uint32_t>(!passes(i + j)) << j);
    }
    const Key first = make_key(0, pass.first + static_cast<uint64_t>(i));
    found = Codes::write_keys(ordered, mask, first, found);
    for (int j = 0; j < Codes::kAlone; ++j) {
      *found = make_key(others[j], 0) + first + (Codes::kItems + j);
      found += others[j] < limit && passes(i + Codes::kItems + j);
    }
  }
  *next = i;
  return found;
}

template <class Lanes, class Codes, Score score>
void filter_together_of(FilterPass& pass) {
  for (int q = 0; q < pass.n_queries; ++q) {
    int64_t next = 0;
    Key* found = filter_together_from<Lanes, Codes, score>(pass, q, &next);
    pass.found[q] = next == pass.n          ? found
                    : pass.n_bytes % 8 == 0 ? filter_codes_from<Lanes, score, 0>(pass, q, next, found)
                                          : filter_ragged_from<Lanes, score, 0>(pass, q, next, found);
  }
}

template <class Lanes, class Codes>
void filter_together(FilterPass& pass) {
  pass.score == Score::hamming ? filter_together_of<Lanes, Codes, Score::hamming>(pass)
                               : filter_together_of<Lanes, Codes, Score::overlap>(pass);
}

// Of codes of `width` bytes, or with n_bytes = kRagged of those that are filled up to it.
template <class Lanes, class Codes>
constexpr FilterRow together_row(int32_t width, int32_t max_queries, int32_t n_bytes = 0) {
  return {"codes", width, kBothScores, kNoMaxBound, 0, max_queries, kPopcountBlock, nullptr, filter_together<Lanes, Codes>,
          nullptr, true, n_bytes};
}

// Codes of 12 bytes as they lie, of three 32-bit words. A `Triples`, made of a query, gives: kItems, splat, and values(code) of so
// many codes from `code` on, as 32-bit lanes in order; below(values, bound), a bit an item.
template <class Triples, Score score>
void filter_triples_of(FilterPass& pass) {
  constexpr int kItems = Triples::kItems;
  for (int q = 0; q < pass.n_queries; ++q) {
    const Triples triples(pass.queries[q]);
    const uint8_t* allowed = pass.allowed[q];
    const uint32_t limit = pass.bounds[q];
    const auto bound = Triples::splat(limit);
    Key* found = pass.found[q];
    int64_t i = 0;
    for (; i + kItems <= pass.n; i += kItems) {
      prefetch(pass.columns + 12 * i + kAhead, 12 * kItems);
      const auto values = triples.template values<score>(pass.columns + 12 * i);
      uint32_t mask = Triples::below(values, bound);
      if (mask == 0) continue;
      if (allowed) mask &= static_cast<uint32_t>(bits_at(allowed, i, kItems));
      uint32_t all[kItems];
      std::memcpy(all, &values, sizeof all);
      for (; mask; mask &= mask - 1) {
        const int j = __builtin_ctz(mask);
        *found++ = make_key(all[j], pass.first + static_cast<uint64_t>(i + j));
      }
    }
    for (; i < pass.n; ++i) {
      uint32_t value = 0;
      for (int w = 0; w < 3; ++w) {
        const auto differing =
            filter_combine<score>(word_at<uint32_t>(pass.columns, 3 * i + w), word_at<uint32_t>(pass.queries[q], w));
        value += static_cast<uint32_t>(__builtin_popcount(differing));
      }
      if (value >= limit) continue;
      *found = make_key(value, pass.first + static_cast<uint64_t>(i));
      found += !allowed || (allowed[i >> 3] >> (i & 7) & 1);
    }
    pass.found[q] = found;
  }
}

template <class Triples>
void filter_triples(FilterPass& pass) {
  pass.score == Score::hamming ? filter_triples_of<Triples, Score::hamming>(pass)
                               : filter_triples_of<Triples, Score::overlap>(pass);
}

template <class Triples>
constexpr FilterRow triples_row() {
  return {"codes", 16, kBothScores, kNoMaxBound, 0, kFilterQueries, kPopcountBlock, nullptr, filter_triples<Triples>, nullptr,
          true, 12};
}

}  // namespace
}  // namespace dshc::cpu
