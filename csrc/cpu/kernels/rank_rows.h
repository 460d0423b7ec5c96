// Loops over rows of rank values that every instruction set shares; like floats.h it keeps to an anonymous namespace and
// off inline functions of the standard library.
#pragma once
#include <cstdint>
#include <cstring>

#include "level.h"

namespace dshc::cpu {
namespace {

void add_relevance_ids(uint16_t* row, const int32_t* ids, int32_t query_id, int64_t n, uint16_t offset) {
  for (int64_t i = 0; i < n; ++i) row[i] = static_cast<uint16_t>(row[i] + (ids[i] == query_id ? offset : 0));
}

void add_relevance_words(uint16_t* row, const uint64_t* words, const uint64_t* query_words, int32_t n_words, int64_t n,
                         uint16_t offset) {
  if (n_words == 1) {
    const uint64_t query = query_words[0];
    for (int64_t i = 0; i < n; ++i) row[i] = static_cast<uint16_t>(row[i] + ((words[i] & query) ? offset : 0));
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    uint64_t shared = 0;
    for (int32_t w = 0; w < n_words; ++w) shared |= words[i * n_words + w] & query_words[w];
    row[i] = static_cast<uint16_t>(row[i] + (shared ? offset : 0));
  }
}

template <Score score>
inline uint64_t combine(uint64_t a, uint64_t b) {
  return score == Score::hamming ? a ^ b : a & b;
}

template <Score score>
inline uint16_t as_rank_value(uint32_t count, uint16_t overlap_top) {
  return static_cast<uint16_t>(score == Score::hamming ? count : overlap_top - count);
}

inline uint64_t load_word(const uint8_t* from) {
  uint64_t word;
  std::memcpy(&word, from, 8);
  return word;
}

inline uint32_t load_half_word(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, 4);
  return word;
}

// For every code length, one code at a time; the vector levels keep it for the last codes of a row.
template <Score score, class PopCount>
inline void rank_row_by_word(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, uint16_t overlap_top,
                             uint16_t* row, PopCount popcount) {
  if (stride == 4) {
    const uint64_t q = load_half_word(query);
    for (int64_t i = 0; i < n; ++i) {
      row[i] = as_rank_value<score>(popcount(combine<score>(q, load_half_word(codes + 4 * i))), overlap_top);
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    uint32_t count = 0;
    for (int32_t w = 0; w < stride; w += 8) {
      count += popcount(combine<score>(load_word(query + w), load_word(codes + i * stride + w)));
    }
    row[i] = as_rank_value<score>(count, overlap_top);
  }
}

// Of the first codes, as many as come several at a time: a `Codes` as in code_filter.h. write(i, values) of kItems of them, in order,
// write_one(i, value); for overlap what is not shared. Returns how many.
template <class Codes, Score score, class Write, class WriteOne>
inline int64_t values_at_once(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, Write write,
                              WriteOne write_one) {
  constexpr int kStep = Codes::kItems + Codes::kAlone;
  const Codes at_once(query, stride);
  const int64_t bytes = Codes::kBytes ? Codes::kBytes : stride, end = n - (Codes::kReadsOn ? 1 : 0);
  int64_t i = 0;
  for (; i + kStep <= end; i += kStep, codes += kStep * bytes) {
    write(i, Codes::in_order(at_once.template values<score>(codes)));
#pragma GCC unroll 4
    for (int j = 0; j < Codes::kAlone; ++j) {
      write_one(i + Codes::kItems + j, at_once.template alone<score>(codes + (Codes::kItems + j) * bytes));
    }
  }
  return i;
}

// The same of a `Codes` whose kAlone is 0, whose values come two vectors at a time: write(i, first, second).
template <class Codes, Score score, class Write>
inline int64_t values_two_at_once(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, Write write) {
  const Codes at_once(query, stride);
  const int64_t bytes = Codes::kItems * (Codes::kBytes ? Codes::kBytes : stride), end = n - (Codes::kReadsOn ? 1 : 0);
  int64_t i = 0;
  for (; i + 2 * Codes::kItems <= end; i += 2 * Codes::kItems, codes += 2 * bytes) {
    const auto first = Codes::in_order(at_once.template values<score>(codes));
    write(i, first, Codes::in_order(at_once.template values<score>(codes + bytes)));
  }
  return i;
}

// By rank values of a few items at a time.
template <class RankRow>
inline void count_row_by_values(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride,
                                int32_t* counts, RankRow rank_row) {
  constexpr int64_t kAtOnce = 512;
  uint16_t row[kAtOnce];
  const auto top = static_cast<uint16_t>(8 * stride);  // of an overlap, more than any count
  for (int64_t first = 0; first < n; first += kAtOnce) {
    const int64_t here = n - first < kAtOnce ? n - first : kAtOnce;
    rank_row(score, query, codes + first * stride, here, stride, top, row);
    for (int64_t i = 0; i < here; ++i) counts[first + i] = score == Score::hamming ? row[i] : top - row[i];
  }
}

}  // namespace
}  // namespace dshc::cpu
