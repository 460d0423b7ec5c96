// NEON (every aarch64): vcntq_u8 counts the bits of sixteen bytes; pairwise additions sum them to codes, in order.
namespace {
constexpr int kLanes = 4;
}
#include <arm_neon.h>

#include "../short_floats.h"
#include "../close_pairs.h"
#include "../rank_rows.h"

namespace dshc::cpu {
namespace {

inline uint32_t popcount(uint64_t x) { return static_cast<uint32_t>(__builtin_popcountll(x)); }

template <Score score>
inline uint8x16_t counts(uint8x16_t query, const uint8_t* codes) {
  const uint8x16_t code = vld1q_u8(codes);
  return vcntq_u8(score == Score::hamming ? veorq_u8(query, code) : vandq_u8(query, code));
}

template <Score score>
inline void store_8(uint16x8_t sums, uint16x8_t top, uint16_t* row) {
  vst1q_u16(row, score == Score::hamming ? sums : vsubq_u16(top, sums));
}

// 8, 4 or 2 vectors of byte counts to the counts of the eight codes they hold, in order. Neighbours are added as bytes,
// which is cheapest: half a code of 32 bytes counts to 128 at most, and only the last addition widens.
inline uint16x8_t sum_8(const uint8x16_t* v, int n_vectors) {
  uint8x16_t sums[8];
  for (int i = 0; i < n_vectors; ++i) sums[i] = v[i];
  for (; n_vectors > 1; n_vectors /= 2) {
    for (int i = 0; i < n_vectors / 2; ++i) sums[i] = vpaddq_u8(sums[2 * i], sums[2 * i + 1]);
  }
  return vpaddlq_u8(sums[0]);
}

// Eight codes of 4, 8 or 16 bytes at a time: kVectors = 2, 4 or 8.
template <Score score, int kVectors>
inline int64_t rank_short_codes(uint8x16_t query, const uint8_t* codes, int64_t n, uint16x8_t top, uint16_t* row) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint8x16_t v[kVectors];
    for (int c = 0; c < kVectors; ++c) v[c] = counts<score>(query, codes + 2 * kVectors * i + 16 * c);
    store_8<score>(sum_8(v, kVectors), top, row + i);
  }
  return i;
}

template <Score score>
void rank_row_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, uint16_t overlap_top,
                 uint16_t* row) {
  const uint16x8_t top = vdupq_n_u16(overlap_top);
  int64_t i = 0;
  if (stride == 4) {
    i = rank_short_codes<score, 2>(vreinterpretq_u8_u32(vdupq_n_u32(load_half_word(query))), codes, n, top, row);
  } else if (stride == 8) {
    i = rank_short_codes<score, 4>(vreinterpretq_u8_u64(vdupq_n_u64(load_word(query))), codes, n, top, row);
  } else if (stride == 16) {
    i = rank_short_codes<score, 8>(vld1q_u8(query), codes, n, top, row);
  } else if (stride == 32) {
    const uint8x16_t q0 = vld1q_u8(query), q1 = vld1q_u8(query + 16);
    for (; i + 8 <= n; i += 8) {
      uint8x16_t v[8];
      for (int c = 0; c < 8; ++c) {
        const uint8_t* code = codes + 32 * (i + c);
        v[c] = vaddq_u8(counts<score>(q0, code), counts<score>(q1, code + 16));
      }
      store_8<score>(sum_8(v, 8), top, row + i);
    }
  } else {
    // 16-bit sums: of at most 32 vectors of 16 each, and 4096 together.
    for (; i < n; ++i) {
      const uint8_t* code = codes + i * stride;
      uint16x8_t sums = vdupq_n_u16(0);
      int32_t b = 0;
      for (; b + 16 <= stride; b += 16) sums = vpadalq_u8(sums, counts<score>(vld1q_u8(query + b), code + b));
      uint32_t count = vaddvq_u16(sums);
      if (b < stride) count += popcount(combine<score>(load_word(query + b), load_word(code + b)));
      row[i] = as_rank_value<score>(count, overlap_top);
    }
  }
  rank_row_by_word<score>(query, codes + i * stride, n - i, stride, overlap_top, row + i, popcount);
}

void rank_row(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, uint16_t overlap_top,
              uint16_t* row) {
  if (score == Score::hamming) {
    rank_row_of<Score::hamming>(query, codes, n, stride, overlap_top, row);
  } else {
    rank_row_of<Score::overlap>(query, codes, n, stride, overlap_top, row);
  }
}

// All ones in each of the 8 lanes with low <= value < low + width.
inline uint16x8_t between(const uint16_t* row, uint16x8_t low, uint16x8_t width) {
  return vcltq_u16(vsubq_u16(vld1q_u16(row), low), width);
}

int64_t select_between(const uint16_t* row, int64_t n, uint16_t low, uint16_t high, uint32_t* positions) {
  const uint16_t width = static_cast<uint16_t>(high - low);
  const uint16x8_t low_v = vdupq_n_u16(low), width_v = vdupq_n_u16(width);
  int64_t found = 0, i = 0;
  for (; i + 16 <= n; i += 16) {
    // There is no movemask: narrowing twice leaves four equal bits for each of the 16 values, of which one is kept.
    const uint8x16_t bytes = vcombine_u8(vmovn_u16(between(row + i, low_v, width_v)),
                                         vmovn_u16(between(row + i + 8, low_v, width_v)));
    const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(bytes), 4);
    uint64_t mask = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & 0x1111111111111111ull;
    for (; mask; mask &= mask - 1) positions[found++] = static_cast<uint32_t>(i + __builtin_ctzll(mask) / 4);
  }
  for (; i < n; ++i) {
    if (static_cast<uint16_t>(row[i] - low) < width) positions[found++] = static_cast<uint32_t>(i);
  }
  return found;
}

void equal_before(const uint16_t* row, const uint32_t* positions, int64_t n_positions, uint16_t shift, uint16_t* before) {
  const uint16_t kFirstLanes[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  const uint16x8_t first_lanes = vld1q_u16(kFirstLanes);
  for (int64_t j = 0; j < n_positions; ++j) {
    const uint32_t at = positions[j], start = at / kRun * kRun;
    const uint16x8_t value = vdupq_n_u16(static_cast<uint16_t>(row[at] - shift));
    uint16x8_t minus_equal = vdupq_n_u16(0);  // a lane that counts is all ones, that is -1
    for (uint32_t lane = 0; lane < kRun; lane += 8) {
      const uint16x8_t lanes = vaddq_u16(first_lanes, vdupq_n_u16(static_cast<uint16_t>(lane)));
      const uint16x8_t earlier = vcltq_u16(lanes, vdupq_n_u16(static_cast<uint16_t>(at - start)));
      minus_equal = vaddq_u16(minus_equal, vandq_u16(earlier, vceqq_u16(vld1q_u16(row + start + lane), value)));
    }
    before[j] = static_cast<uint16_t>(0 - vaddvq_u16(minus_equal));
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

extern const AsymmetricKernels kNeonAsymmetric;  // asymmetric.cpp
extern const FilterRow kNeonFilters[];     // filter.cpp
extern const CodeKernels kNeonCodes;       // filter.cpp
extern const BitKernels kGenericBits;          // generic/bits.cpp
extern const PlaneKernels kGenericPlanes;  // generic/plane_counts.cpp

extern const Level kNeonLevel;
const Level kNeonLevel = {"neon", kNeonFilters, &kRank, &kGenericPlanes, &kFloats, &kNeonCodes, &kGenericBits, &kNeonAsymmetric};

}  // namespace dshc::cpu
