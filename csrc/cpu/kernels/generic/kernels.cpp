// Plain C++ for any processor.
namespace {
constexpr int kLanes = 4;
}
#include "../close_pairs.h"
#include "../short_floats.h"
#include "../rank_rows.h"

namespace dshc::cpu {
namespace {

inline uint32_t popcount(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555ull;
  x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
  return static_cast<uint32_t>((x * 0x0101010101010101ull) >> 56);
}

void rank_row(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, uint16_t overlap_top,
              uint16_t* row) {
  if (score == Score::hamming) {
    rank_row_by_word<Score::hamming>(query, codes, n, stride, overlap_top, row, popcount);
  } else {
    rank_row_by_word<Score::overlap>(query, codes, n, stride, overlap_top, row, popcount);
  }
}

int64_t select_between(const uint16_t* row, int64_t n, uint16_t low, uint16_t high, uint32_t* positions) {
  const uint16_t width = static_cast<uint16_t>(high - low);
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    positions[found] = static_cast<uint32_t>(i);
    found += static_cast<uint16_t>(row[i] - low) < width;
  }
  return found;
}

void equal_before(const uint16_t* row, const uint32_t* positions, int64_t n_positions, uint16_t shift, uint16_t* before) {
  for (int64_t j = 0; j < n_positions; ++j) {
    const uint32_t at = positions[j], start = at / kRun * kRun;
    const uint16_t value = static_cast<uint16_t>(row[at] - shift);
    uint16_t equal = 0;
    for (uint32_t i = start; i < at; ++i) equal = static_cast<uint16_t>(equal + (row[i] == value));
    before[j] = equal;
  }
}

void count_row(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, int32_t* counts) {
  count_row_by_values(score, query, codes, n, stride, counts, rank_row);
}

int64_t pairs_below(const uint8_t* codes, int64_t n, int32_t stride, uint16_t limit, ClosePair* pairs) {
  return pairs_below_by_word(codes, n, stride, limit, pairs, popcount);
}

const RankKernels kRank = {rank_row,       count_row,    add_relevance_ids, add_relevance_words,
                           select_between, equal_before, pairs_below};
const FloatKernels kFloats = {max_value<float>, any_nan, bound_of_top, select_at_least_plain,
                              sum_exp<float>, scaled_exp<float>, keep_exp<float>, multiply<float>,
                              from_float16, from_bfloat16, to_float16, to_bfloat16,
                              max_value<double>, sum_exp<double>, scaled_exp<double>, keep_exp<double>, multiply<double>};

}  // namespace

extern const AsymmetricKernels kGenericAsymmetric;  // asymmetric.cpp
extern const FilterRow kGenericFilters[];  // filter.cpp
extern const CodeKernels kGenericCodes;    // filter.cpp
extern const BitKernels kGenericBits;   // bits.cpp
extern const PlaneKernels kGenericPlanes;  // plane_counts.cpp

extern const Level kGenericLevel;
const Level kGenericLevel = {"generic", kGenericFilters, &kRank, &kGenericPlanes, &kFloats, &kGenericCodes, &kGenericBits, &kGenericAsymmetric};

}  // namespace dshc::cpu
