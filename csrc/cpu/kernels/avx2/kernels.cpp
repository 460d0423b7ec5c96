// AVX2: byte popcounts by table look-up (vpshufb), summed to 64-bit words by vpsadbw.
namespace {
constexpr int kLanes = 8;
}
#include <immintrin.h>

#include "../short_floats.h"
#include "../close_pairs.h"
#include "../rank_rows.h"
#include "byte_popcount.h"
#include "codes_at_once.h"

namespace dshc::cpu {
namespace {

inline uint32_t popcount(uint64_t x) { return static_cast<uint32_t>(__builtin_popcountll(x)); }

template <Score score>
inline __m256i combine(__m256i a, __m256i b) {
  return score == Score::hamming ? _mm256_xor_si256(a, b) : _mm256_and_si256(a, b);
}

inline __m256i load_256(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// Sixteen rank values from four vectors of four 64-bit counts each, in order.
template <Score score>
inline void store_counts(const __m256i counts[4], uint16_t overlap_top, uint16_t* row) {
  alignas(32) uint64_t words[16];
  for (int v = 0; v < 4; ++v) _mm256_store_si256(reinterpret_cast<__m256i*>(words + 4 * v), counts[v]);
  for (int i = 0; i < 16; ++i) row[i] = as_rank_value<score>(static_cast<uint32_t>(words[i]), overlap_top);
}

// Four 64-bit values as 32-bit ones.
inline __m128i narrowed(__m256i values) {
  return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(values, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)));
}

// Codes of two words and more.
template <Score score, class Write, class WriteOne>
inline int64_t values_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, Write write, WriteOne write_one) {
  switch (stride) {
    case 16: return values_at_once<SlotCodes<2, false>, score>(query, codes, n, stride, write, write_one);
    case 24: return values_at_once<SlotCodes<3, false>, score>(query, codes, n, stride, write, write_one);
    case 32: return values_at_once<SlotCodes<4, false>, score>(query, codes, n, stride, write, write_one);
    case 64: return values_at_once<LongCodes<8>, score>(query, codes, n, stride, write, write_one);
    case 128: return values_at_once<LongCodes<16>, score>(query, codes, n, stride, write, write_one);
    default: return values_at_once<LongCodes<0>, score>(query, codes, n, stride, write, write_one);
  }
}

template <Score score>
void rank_row_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, uint16_t overlap_top,
                 uint16_t* row) {
  const __m256i zero = _mm256_setzero_si256();
  int64_t i = 0;
  if (stride == 4) {
    const __m256i q = _mm256_set1_epi32(static_cast<int>(load_half_word(query)));
    const __m256i ones_8 = _mm256_set1_epi8(1), ones_16 = _mm256_set1_epi16(1);
    const __m256i top = _mm256_set1_epi16(static_cast<short>(overlap_top));
    for (; i + 16 <= n; i += 16) {
      __m256i sums[2];
      for (int v = 0; v < 2; ++v) {
        const __m256i bytes = byte_popcount(combine<score>(q, load_256(codes + 4 * i + 32 * v)));
        sums[v] = _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, ones_8), ones_16);
      }
      const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(sums[0], sums[1]), 0xD8);
      const __m256i values = score == Score::hamming ? packed : _mm256_sub_epi16(top, packed);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row + i), values);
    }
  } else if (stride == 8) {
    const __m256i q = _mm256_set1_epi64x(static_cast<long long>(load_word(query)));
    for (; i + 16 <= n; i += 16) {
      __m256i counts[4];
      for (int v = 0; v < 4; ++v) {
        counts[v] = _mm256_sad_epu8(byte_popcount(combine<score>(q, load_256(codes + 8 * i + 32 * v))), zero);
      }
      store_counts<score>(counts, overlap_top, row + i);
    }
  } else {
    const auto offset = static_cast<uint16_t>(score == Score::hamming ? 0 : overlap_top - 8 * stride);
    const __m128i offsets = _mm_set1_epi16(static_cast<short>(offset));
    i = values_of<score>(
        query, codes, n, stride,
        [&](int64_t at, __m256i values) {
          const __m128i four = narrowed(values);
          _mm_storel_epi64(reinterpret_cast<__m128i*>(row + at), _mm_add_epi16(_mm_packus_epi32(four, four), offsets));
        },
        [&](int64_t at, uint64_t value) { row[at] = static_cast<uint16_t>(value + offset); });
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

// One bit for each of the 16 values with low <= value < high. Unsigned compare by saturation: a < w means w - a > 0.
inline uint32_t between_mask(const uint16_t* row, __m256i low, __m256i width) {
  const __m256i v = _mm256_sub_epi16(load_256(reinterpret_cast<const uint8_t*>(row)), low);
  const __m256i outside = _mm256_cmpeq_epi16(_mm256_subs_epu16(width, v), _mm256_setzero_si256());
  return _pext_u32(~static_cast<uint32_t>(_mm256_movemask_epi8(outside)), 0x55555555u);
}

int64_t select_between(const uint16_t* row, int64_t n, uint16_t low, uint16_t high, uint32_t* positions) {
  const uint16_t width = static_cast<uint16_t>(high - low);
  const __m256i low_v = _mm256_set1_epi16(static_cast<short>(low));
  const __m256i width_v = _mm256_set1_epi16(static_cast<short>(width));
  int64_t found = 0, i = 0;
  for (; i + 16 <= n; i += 16) {
    for (uint32_t mask = between_mask(row + i, low_v, width_v); mask; mask &= mask - 1) {
      positions[found++] = static_cast<uint32_t>(i + __builtin_ctz(mask));
    }
  }
  for (; i < n; ++i) {
    if (static_cast<uint16_t>(row[i] - low) < width) positions[found++] = static_cast<uint32_t>(i);
  }
  return found;
}

void equal_before(const uint16_t* row, const uint32_t* positions, int64_t n_positions, uint16_t shift, uint16_t* before) {
  for (int64_t j = 0; j < n_positions; ++j) {
    const uint32_t at = positions[j], start = at / kRun * kRun;
    const __m256i value = _mm256_set1_epi16(static_cast<short>(row[at] - shift));
    const auto* run = reinterpret_cast<const uint8_t*>(row + start);
    // Byte masks of two vectors, packed to one bit a value; packs works within 128-bit lanes, hence the permutation.
    const __m256i equal = _mm256_packs_epi16(_mm256_cmpeq_epi16(load_256(run), value),
                                             _mm256_cmpeq_epi16(load_256(run + 32), value));
    const uint32_t mask = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permute4x64_epi64(equal, 0xD8)));
    before[j] = static_cast<uint16_t>(__builtin_popcount(_bzhi_u32(mask, at - start)));
  }
}

// Sixteen 64-bit counts as 32-bit ones.
inline void store_counts(const __m256i counts[4], int32_t* to) {
  for (int v = 0; v < 4; v += 2) {
    const __m256 halves = _mm256_shuffle_ps(_mm256_castsi256_ps(counts[v]), _mm256_castsi256_ps(counts[v + 1]), 0x88);
    const __m256i in_order = _mm256_permute4x64_epi64(_mm256_castps_si256(halves), 0xD8);
    auto* out = reinterpret_cast<__m256i*>(to + 4 * v);
    _mm256_storeu_si256(out, in_order);
  }
}

template <Score score>
int64_t count_row_of_8(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t* to) {
  const __m256i q = _mm256_set1_epi64x(static_cast<long long>(load_word(query)));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m256i counts[4];
    for (int v = 0; v < 4; ++v) {
      counts[v] = _mm256_sad_epu8(byte_popcount(combine<score>(q, load_256(codes + 8 * i + 32 * v))), _mm256_setzero_si256());
    }
    store_counts(counts, to + i);
  }
  return i;
}

template <Score score>
int64_t count_row_of(const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, int32_t* to) {
  if (stride == 4) return 0;
  if (stride == 8) return count_row_of_8<score>(query, codes, n, to);
  const int32_t all = 8 * stride;  // of an overlap, less what is not shared
  return values_of<score>(
      query, codes, n, stride,
      [&](int64_t at, __m256i values) {
        const __m128i four = narrowed(values);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at),
                         score == Score::hamming ? four : _mm_sub_epi32(_mm_set1_epi32(all), four));
      },
      [&](int64_t at, uint64_t value) {
        to[at] = score == Score::hamming ? static_cast<int32_t>(value) : all - static_cast<int32_t>(value);
      });
}

void count_row(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, int32_t* counts) {
  const int64_t done = score == Score::hamming ? count_row_of<Score::hamming>(query, codes, n, stride, counts)
                                               : count_row_of<Score::overlap>(query, codes, n, stride, counts);
  count_row_by_values(score, query, codes + done * stride, n - done, stride, counts + done, rank_row);
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

extern const AsymmetricKernels kAvx2Asymmetric;  // asymmetric.cpp
extern const FilterRow kAvx2Filters[];  // filter.cpp
extern const CodeKernels kAvx2Codes;    // filter.cpp
extern const BitKernels kAvx2Bits;      // bits.cpp
extern const PlaneKernels kAvx2Planes;  // plane_counts.cpp

extern const Level kAvx2Level;
const Level kAvx2Level = {"avx2", kAvx2Filters, &kRank, &kAvx2Planes, &kFloats, &kAvx2Codes, &kAvx2Bits, &kAvx2Asymmetric};

}  // namespace dshc::cpu
