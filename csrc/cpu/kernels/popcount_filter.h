// The filter's loops, for any vector type. Included once by each <level>/filter.cpp, which is compiled with that level's
// flags; like floats.h it keeps to an anonymous namespace and off inline functions of the standard library.
//
// Each word of a block is loaded once for kQueries queries. Per vector of items and query: XOR, popcount, and one minimum
// into a register that kSteps vectors share; only that minimum is compared with the bound. Comparing every vector would
// cost as much as its popcount, since a mask has to cross to the scalar side. Candidates are rare once the bound has
// fallen, and the few strides that hold one are gone through again.
//
// A `Lanes` gives: Word, Vector, kItems (words per vector), kQueries (that fit into registers together), popcount, load,
// splat, counts<score>, add, min, below (a bit an item).
#pragma once
#include <cstdint>
#include <cstring>

#include "level.h"

namespace dshc::cpu {
namespace {

// For overlap the bits that are *not* shared are counted: like a distance, this ascends from best to worst. Padding bits
// count too; `excess_bits` takes them off again.
template <Score score, class Word>
inline Word filter_combine(Word a, Word b) {
  return static_cast<Word>(score == Score::hamming ? a ^ b : ~(a & b));
}

inline uint64_t excess_bits(const FilterPass& pass) {
  return pass.score == Score::hamming ? 0 : static_cast<uint64_t>(8 * (pass.word_bytes * pass.n_words - pass.n_bytes));
}

// Codes that come from memory are asked for so many bytes before they are read: the processor's own look-ahead ends at each
// page. Measured. Past the end of the database it asks for nothing.
constexpr int64_t kAhead = 6 << 10;

inline void prefetch(const uint8_t* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

template <class Word>
inline Word word_at(const uint8_t* words, int64_t i) {
  Word word;
  std::memcpy(&word, words + i * static_cast<int64_t>(sizeof(Word)), sizeof(Word));
  return word;
}

// Bits of n items from `item` on; both multiples of n, which is a power of two.
inline uint64_t bits_at(const uint8_t* bits, int64_t item, int64_t n) {
  uint64_t word = 0;
  std::memcpy(&word, bits + item / 8, static_cast<size_t>(n > 8 ? n / 8 : 1));
  return word >> (item % 8) & (~uint64_t{0} >> (64 - n));
}

// One item at a time: the end of a block, and the level without vectors.
template <class Lanes, Score score>
void filter_items(FilterPass& pass, int q, int64_t begin) {
  using Word = typename Lanes::Word;
  const uint64_t excess = excess_bits(pass);
  Key* found = pass.found[q];
  for (int64_t i = begin; i < pass.n; ++i) {
    uint64_t value = 0;
    for (int32_t w = 0; w < pass.n_words; ++w) {
      value += Lanes::popcount(filter_combine<score>(word_at<Word>(pass.columns, w * pass.column_items + i),
                                                     word_at<Word>(pass.queries[q], w)));
    }
    value -= excess;
    *found = make_key(value, pass.first + static_cast<uint64_t>(i));
    found += value < pass.bounds[q] && (!pass.allowed[q] || (pass.allowed[q][i >> 3] >> (i & 7) & 1));
  }
  pass.found[q] = found;
}

// Counts of the items of one vector for each query; kWords 0: as many words as the pass says.
template <class Lanes, Score score, int kWords, int kQueries>
inline void filter_counts(const FilterPass& pass, int64_t item, const uint8_t* const* queries,
                          const typename Lanes::Vector (*splats)[kWords ? kWords : 1], typename Lanes::Vector* counts) {
  using Word = typename Lanes::Word;
  const int32_t n_words = kWords ? kWords : pass.n_words;
  for (int32_t w = 0; w < n_words; ++w) {
    auto code = Lanes::load(pass.columns + (w * pass.column_items + item) * static_cast<int64_t>(sizeof(Word)));
    // Or the compiler loads it anew for each query, and loads that cross cache lines become the limit.
    if (kQueries > 1) Lanes::keep(code);
    for (int q = 0; q < kQueries; ++q) {
      const auto word = kWords ? splats[q][w] : Lanes::splat(word_at<Word>(queries[q], w));
      const auto more = Lanes::template counts<score>(code, word);
      counts[q] = w == 0 ? more : Lanes::add(counts[q], more);
    }
  }
}

constexpr int kSteps = 4;  // vectors that share a minimum

// Candidates among the kSteps vectors from `item` on, a bit an item.
template <class Lanes, Score score, int kWords>
inline uint64_t filter_mask(const FilterPass& pass, int64_t item, const uint8_t* query,
                            const typename Lanes::Vector (*splats)[kWords ? kWords : 1], typename Lanes::Vector bound) {
  uint64_t mask = 0;
#pragma GCC unroll 4
  for (int step = 0; step < kSteps; ++step) {
    const int64_t at = step * Lanes::kItems;
    typename Lanes::Vector counts{};
    filter_counts<Lanes, score, kWords, 1>(pass, item + at, &query, splats, &counts);
    mask |= static_cast<uint64_t>(Lanes::below(counts, bound)) << at;
  }
  return mask;
}

template <class Lanes, Score score>
inline uint64_t filter_value(const FilterPass& pass, int64_t item, const uint8_t* query) {
  using Word = typename Lanes::Word;
  uint64_t value = 0;
  for (int32_t w = 0; w < pass.n_words; ++w) {
    value += Lanes::popcount(
        filter_combine<score>(word_at<Word>(pass.columns, w * pass.column_items + item), word_at<Word>(query, w)));
  }
  return value;
}

// A function of its own for each form, so that the registers of one loop are not another's worry.
template <class Lanes, Score score, int kWords, int kQueries>
__attribute__((noinline)) void filter_queries(FilterPass& pass, int first_query) {
  using Word = typename Lanes::Word;
  using Vector = typename Lanes::Vector;
  constexpr int64_t kStride = int64_t{kSteps} * Lanes::kItems;
  const uint64_t excess = excess_bits(pass);
  const int64_t n = pass.n / kStride * kStride;
  Vector splats[kQueries][kWords ? kWords : 1], bounds[kQueries];
  const uint8_t* queries[kQueries];
  for (int q = 0; q < kQueries; ++q) {
    queries[q] = pass.queries[first_query + q];
    for (int w = 0; w < kWords; ++w) splats[q][w] = Lanes::splat(word_at<Word>(queries[q], w));
    bounds[q] = Lanes::splat(static_cast<Word>(pass.bounds[first_query + q] + excess));
  }

  // First the strides that hold a candidate are noted, without a branch: a mispredicted one costs as much as the stride.
  uint16_t hits[kQueries][kMostBlockItems / kStride + 1];
  int64_t n_hits[kQueries] = {};
  for (int64_t i = 0; i < n; i += kStride) {
    Vector least[kQueries] = {};
#pragma GCC unroll 4
    for (int step = 0; step < kSteps; ++step) {
      Vector counts[kQueries] = {};
      filter_counts<Lanes, score, kWords, kQueries>(pass, i + step * Lanes::kItems, queries, splats, counts);
      for (int q = 0; q < kQueries; ++q) least[q] = step == 0 ? counts[q] : Lanes::min(least[q], counts[q]);
    }
    for (int q = 0; q < kQueries; ++q) {
      hits[q][n_hits[q]] = static_cast<uint16_t>(i);
      n_hits[q] += Lanes::below(least[q], bounds[q]) != 0;
    }
  }

  for (int q = 0; q < kQueries; ++q) {
    Key* found = pass.found[first_query + q];
    const uint8_t* allowed = pass.allowed[first_query + q];
    for (int64_t h = 0; h < n_hits[q]; ++h) {
      const int64_t i = hits[q][h];
      uint64_t mask = filter_mask<Lanes, score, kWords>(pass, i, queries[q], splats + q, bounds[q]);
      if (allowed) mask &= bits_at(allowed, i, kStride);
      const Key base = make_key(0, pass.first + static_cast<uint64_t>(i)) - (excess << kIndexBits);
      for (; mask; mask &= mask - 1) {
        const int64_t j = __builtin_ctzll(mask);
        *found++ = make_key(filter_value<Lanes, score>(pass, i + j, queries[q]), static_cast<uint64_t>(j)) + base;
      }
    }
    pass.found[first_query + q] = found;
    if (n < pass.n) filter_items<Lanes, score>(pass, first_query + q, n);
  }
}

template <class Lanes, Score score, int kWords>
void filter_words(FilterPass& pass) {
  constexpr int kTogether = Lanes::kQueries;
  int q = 0;
  for (; q + kTogether <= pass.n_queries; q += kTogether) filter_queries<Lanes, score, kWords, kTogether>(pass, q);
  for (; q < pass.n_queries; ++q) filter_queries<Lanes, score, kWords, 1>(pass, q);
}

template <class Lanes, int kWords>
void filter_popcounts(FilterPass& pass) {
  pass.score == Score::hamming ? filter_words<Lanes, Score::hamming, kWords>(pass)
                               : filter_words<Lanes, Score::overlap, kWords>(pass);
}

constexpr BlockLength kPopcountBlock = {16 << 10, 64, 2048};

// The row of codes of kWords words; 0: of any number.
template <class Lanes, int kWords>
constexpr FilterRow popcount_row() {
  return {"popcounts", kWords * static_cast<int32_t>(sizeof(typename Lanes::Word)), kBothScores, kNoMaxBound, 0,
          kAnyQueries, kPopcountBlock, nullptr, filter_popcounts<Lanes, kWords>, nullptr};
}

// A block ends with a block of planes, but the last one: a bound that falls in between would have to be written again.
constexpr FilterRow plane_row(int32_t width, int32_t min_queries, const PlaneFilterKernels* planes) {
  return {"planes", width, score_bit(Score::hamming), 8 * width, min_queries, kAnyQueries, {16 << 10, kPlaneItems, 2048},
          nullptr, nullptr, planes};
}

constexpr int32_t kMostForCodes = 2;  // queries; measured

// Codes one after the other as they lie, for a few queries, which do not make up for word columns: what is read once is
// read from far, and a column more is a stream more.
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

// Keeps a word in a general register: a compiler that puts two of them into a vector to count their bits loses more than that
// to get them out again.
inline uint64_t alone(uint64_t word) {
  __asm__("" : "+r"(word));
  return word;
}

// The same of codes that end inside a word: the last one is read as the eight bytes that end where the code does, and what
// belongs to the word before is shifted out.
template <class Lanes, Score score, int kWhole>
Key* filter_ragged_from(const FilterPass& pass, int q, Key* found) {
  const int32_t n_bytes = pass.n_bytes, n_whole = kWhole ? kWhole : n_bytes / 8, shift = 8 * (8 - n_bytes % 8);
  const uint8_t *query = pass.queries[q], *allowed = pass.allowed[q], *code = pass.columns;
  const uint64_t bound = pass.bounds[q];
  uint64_t end;  // of the query
  std::memcpy(&end, query + n_bytes - 8, 8);
  for (int64_t i = 0; i < pass.n; ++i, code += n_bytes) {
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
  for (int q = 0; q < pass.n_queries; ++q) pass.found[q] = filter(pass, q, pass.found[q]);
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

// Codes of 12 bytes as they lie, of three 32-bit words. A `Triples`, made of a query, gives: kItems, and values(code) of so many
// codes from `code` on, as 32-bit lanes in order; below(values, bound), a bit an item; store.
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

void to_columns_by_word(const uint8_t* codes, int64_t n, int32_t n_words, uint64_t* columns, int64_t column_items) {
  for (int32_t w = 0; w < n_words; ++w) {
    for (int64_t i = 0; i < n; ++i) columns[w * column_items + i] = word_at<uint64_t>(codes, i * n_words + w);
  }
}

}  // namespace
}  // namespace dshc::cpu
