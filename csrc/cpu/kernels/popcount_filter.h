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
#include "words.h"

namespace dshc::cpu {
namespace {

// Padding bits count too (filter_combine, of overlap); this takes them off again.
inline uint64_t excess_bits(const FilterPass& pass) {
  return pass.score == Score::hamming ? 0 : static_cast<uint64_t>(8 * (pass.word_bytes * pass.n_words - pass.n_bytes));
}

// Codes that come from memory are asked for so many bytes before they are read: the processor's own look-ahead ends at each
// page. Measured. Past the end of the database it asks for nothing.
constexpr int64_t kAhead = 6 << 10;

inline void prefetch(const uint8_t* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
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

  // First the strides that hold a candidate are noted, without a branch: a mispredicted one costs as much as the stride. In a
  // register, for a store to an address that is late holds up the loads behind it where the low bits of their addresses agree: on
  // some processors, and by where memory lies, the loop took 2.6 times as long.
  uint64_t hits[kQueries][kMostBlockItems / kStride / 64 + 1];
  for (int64_t i = 0, word = 0; i < n; ++word) {
    uint64_t strides[kQueries] = {};
    const int64_t end = n - i < 64 * kStride ? n : i + 64 * kStride;
    for (int place = 0; i < end; i += kStride, ++place) {
      Vector least[kQueries] = {};
#pragma GCC unroll 4
      for (int step = 0; step < kSteps; ++step) {
        Vector counts[kQueries] = {};
        filter_counts<Lanes, score, kWords, kQueries>(pass, i + step * Lanes::kItems, queries, splats, counts);
        for (int q = 0; q < kQueries; ++q) least[q] = step == 0 ? counts[q] : Lanes::min(least[q], counts[q]);
      }
      for (int q = 0; q < kQueries; ++q) {
        strides[q] |= static_cast<uint64_t>(Lanes::below(least[q], bounds[q]) != 0) << place;
      }
    }
    for (int q = 0; q < kQueries; ++q) hits[q][word] = strides[q];
  }

  for (int q = 0; q < kQueries; ++q) {
    Key* found = pass.found[first_query + q];
    const uint8_t* allowed = pass.allowed[first_query + q];
    const auto take = [&](int64_t i) {
      uint64_t mask = filter_mask<Lanes, score, kWords>(pass, i, queries[q], splats + q, bounds[q]);
      if (allowed) mask &= bits_at(allowed, i, kStride);
      const Key base = make_key(0, pass.first + static_cast<uint64_t>(i)) - (excess << kIndexBits);
      for (; mask; mask &= mask - 1) {
        const int64_t j = __builtin_ctzll(mask);
        *found++ = make_key(filter_value<Lanes, score>(pass, i + j, queries[q]), static_cast<uint64_t>(j)) + base;
      }
    };
    for (int64_t word = 0; 64 * kStride * word < n; ++word) {
      for (uint64_t rest = hits[q][word]; rest; rest &= rest - 1) take((64 * word + __builtin_ctzll(rest)) * kStride);
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

void to_columns_by_word(const uint8_t* codes, int64_t n, int32_t n_words, uint64_t* columns, int64_t column_items) {
  for (int32_t w = 0; w < n_words; ++w) {
    for (int64_t i = 0; i < n; ++i) columns[w * column_items + i] = word_at<uint64_t>(codes, i * n_words + w);
  }
}

}  // namespace
}  // namespace dshc::cpu
