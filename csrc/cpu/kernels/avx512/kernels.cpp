// AVX-512 with VPOPCNTDQ: one instruction counts the bits of eight 64-bit or sixteen 32-bit words.
namespace {
constexpr int kLanes = 16;
}
#include <immintrin.h>

#include "../short_floats.h"
#include "../close_pairs.h"
#include "../rank_rows.h"
#include "codes_at_once.h"
#include "filters.h"

namespace dshc::cpu {
namespace {

inline uint32_t popcount(uint64_t x) { return static_cast<uint32_t>(__builtin_popcountll(x)); }

template <Score score>
inline __m512i combine(__m512i a, __m512i b) {
  return score == Score::hamming ? _mm512_xor_si512(a, b) : _mm512_and_si512(a, b);
}

inline __m512i load_512(const uint8_t* from) { return _mm512_loadu_si512(from); }

template <Score score>
inline __m512i counts_64(__m512i query, const uint8_t* codes) {
  return _mm512_popcnt_epi64(combine<score>(query, load_512(codes)));
}

template <Score score>
inline void store_8(__m512i counts, __m128i top, uint16_t* row) {
  __m128i values = _mm512_cvtepi64_epi16(counts);
  if (score == Score::overlap) values = _mm_sub_epi16(top, values);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row), values);
}

// Codes of two words and more.
template <Score score, class Write>
inline int64_t values_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, Write write) {
  switch (stride) {
    case 16: return values_two_at_once<SlotCodes<16, true>, score>(query, codes, n, stride, write);
    case 24: return values_two_at_once<SlotCodes<32, false>, score>(query, codes, n, stride, write);
    case 32: return values_two_at_once<SlotCodes<32, true>, score>(query, codes, n, stride, write);
    case 48: return values_two_at_once<LongCodes<48>, score>(query, codes, n, stride, write);
    case 64: return values_two_at_once<LongCodes<64>, score>(query, codes, n, stride, write);
    case 96: return values_two_at_once<LongCodes<96>, score>(query, codes, n, stride, write);
    case 128: return values_two_at_once<LongCodes<128>, score>(query, codes, n, stride, write);
    default: return values_two_at_once<LongCodes<0>, score>(query, codes, n, stride, write);
  }
}

// Two vectors of 64-bit values as 32-bit ones: whole lines are written faster than their halves.
inline __m512i narrowed(__m512i first, __m512i second) {
  const __m512i low_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_epi32(first, low_halves, second);
}

template <Score score>
void rank_row_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, uint16_t overlap_top,
                 uint16_t* row) {
  const __m128i top = _mm_set1_epi16(static_cast<short>(overlap_top));
  int64_t i = 0;
  if (stride == 4) {
    const __m512i q = _mm512_set1_epi32(static_cast<int>(load_half_word(query)));
    const __m256i wide_top = _mm256_set1_epi16(static_cast<short>(overlap_top));
    for (; i + 16 <= n; i += 16) {
      const __m512i counts = _mm512_popcnt_epi32(combine<score>(q, load_512(codes + 4 * i)));
      __m256i values = _mm512_cvtepi32_epi16(counts);
      if (score == Score::overlap) values = _mm256_sub_epi16(wide_top, values);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + i), values);
    }
  } else if (stride == 8) {
    const __m512i q = _mm512_set1_epi64(static_cast<long long>(load_word(query)));
    for (; i + 8 <= n; i += 8) store_8<score>(counts_64<score>(q, codes + 8 * i), top, row + i);
  } else {
    const auto offset = static_cast<uint16_t>(score == Score::hamming ? 0 : overlap_top - 8 * stride);
    const __m256i offsets = _mm256_set1_epi16(static_cast<short>(offset));
    i = values_of<score>(query, codes, n, stride, [&](int64_t at, __m512i first, __m512i second) {
      const __m256i values = _mm512_cvtepi32_epi16(narrowed(first, second));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + at), _mm256_add_epi16(values, offsets));
    });
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

template <Score score>
int64_t count_row_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, int32_t* to) {
  if (stride == 4) return 0;
  if (stride == 8) {
    const __m512i q = _mm512_set1_epi64(static_cast<long long>(load_word(query)));
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      __builtin_prefetch(to + i + 512, 1);  // answers outgrow the caches, and lines are written faster than they come
      _mm512_storeu_si512(to + i, narrowed(counts_64<score>(q, codes + 8 * i), counts_64<score>(q, codes + 8 * i + 64)));
    }
    return i;
  }
  const __m512i all = _mm512_set1_epi32(8 * stride);  // of an overlap, less what is not shared
  return values_of<score>(query, codes, n, stride, [&](int64_t at, __m512i first, __m512i second) {
    const __m512i values = narrowed(first, second);
    _mm512_storeu_si512(to + at, score == Score::hamming ? values : _mm512_sub_epi32(all, values));
  });
}

void count_row(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, int32_t* counts) {
  const int64_t done = score == Score::hamming ? count_row_of<Score::hamming>(query, codes, n, stride, counts)
                                               : count_row_of<Score::overlap>(query, codes, n, stride, counts);
  count_row_by_values(score, query, codes + done * stride, n - done, stride, counts + done, rank_row);
}

inline uint32_t between_mask(__m512i values, __m512i low, __m512i width) {
  return _mm512_cmplt_epu16_mask(_mm512_sub_epi16(values, low), width);
}

int64_t select_between(const uint16_t* row, int64_t n, uint16_t low, uint16_t high, uint32_t* positions) {
  const uint16_t width = static_cast<uint16_t>(high - low);
  const __m512i low_v = _mm512_set1_epi16(static_cast<short>(low));
  const __m512i width_v = _mm512_set1_epi16(static_cast<short>(width));
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 32) {
    const __mmask32 valid = n - i >= 32 ? ~0u : (1u << (n - i)) - 1;
    const __m512i values = _mm512_maskz_loadu_epi16(valid, row + i);
    for (uint32_t mask = between_mask(values, low_v, width_v) & valid; mask; mask &= mask - 1) {
      positions[found++] = static_cast<uint32_t>(i + __builtin_ctz(mask));
    }
  }
  return found;
}

void equal_before(const uint16_t* row, const uint32_t* positions, int64_t n_positions, uint16_t shift, uint16_t* before) {
  for (int64_t j = 0; j < n_positions; ++j) {
    const uint32_t at = positions[j], start = at / kRun * kRun;
    const __m512i value = _mm512_set1_epi16(static_cast<short>(row[at] - shift));
    const uint32_t mask = _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(row + start), value);
    before[j] = static_cast<uint16_t>(__builtin_popcount(_bzhi_u32(mask, at - start)));
  }
}

int64_t select_at_least(const float* values, int64_t n, float bound, uint32_t* positions) {
  const __m512 bounds = _mm512_set1_ps(bound);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 valid = static_cast<__mmask16>(n - i >= 16 ? 0xFFFF : (1u << (n - i)) - 1);
    const __mmask16 hits =
        _mm512_mask_cmp_ps_mask(valid, _mm512_maskz_loadu_ps(valid, values + i), bounds, _CMP_GE_OQ);
    if (hits == 0) continue;
    _mm512_mask_compressstoreu_epi32(positions + found, hits,
                                     _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(i))));
    found += __builtin_popcount(hits);
  }
  return found;
}

int64_t pairs_below(const uint8_t* codes, int64_t n, int32_t stride, uint16_t limit, ClosePair* pairs) {
  return pairs_below_by_word(codes, n, stride, limit, pairs, popcount);
}

const RankKernels kRank = {rank_row,       count_row,    add_relevance_ids, add_relevance_words,
                           select_between, equal_before, pairs_below};
const FloatKernels kFloats = {max_value<float>, any_nan, bound_of_top, select_at_least,
                              sum_exp<float>, scaled_exp<float>, keep_exp<float>, multiply<float>,
                              from_float16, from_bfloat16, to_float16, to_bfloat16,
                              max_value<double>, sum_exp<double>, scaled_exp<double>, keep_exp<double>, multiply<double>};

}  // namespace

extern const AsymmetricKernels kAvx512Asymmetric;  // asymmetric.cpp
extern const CodeKernels kAvx512Codes;                               // filter.cpp
extern const BitKernels kAvx512Bits;                                   // bits.cpp
extern const PlaneKernels kAvx512Planes;                             // plane_counts.cpp

extern const Level kAvx512Level, kAvx512BitMatrixLevel;
const Level kAvx512Level = {"avx512", kAvx512Filters + kAvx512PlaneRows, &kRank, &kAvx512Planes, &kFloats, &kAvx512Codes, &kAvx512Bits, &kAvx512Asymmetric};
const Level kAvx512BitMatrixLevel = {"avx512", kAvx512Filters, &kRank, &kAvx512Planes, &kFloats, &kAvx512Codes, &kAvx512Bits, &kAvx512Asymmetric};

}  // namespace dshc::cpu
