// AVX2, two ways to the distance: byte popcounts by VPSHUFB over each half byte, summed by VPSADBW; and, over codes
// held as half bytes, a table of 16 distances for each half byte of the query: a VPSHUFB and an add serve 32 pairs.
// Compiled for AVX2 alone, so that no 512-bit instruction set lends it registers.
#if defined(__AVX2__)
#include <immintrin.h>

#include "limits.h"

namespace {

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

inline __m256i byte_popcount(__m256i v) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i half = _mm256_set1_epi8(0x0F);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, half)),
                         _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), half)));
}

inline __m256i splat(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
inline __m256i splat(uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }

// Distances in lanes of 32 or 64 bits, whose upper parts are 0: 16-bit minima and compares serve them.
template <class Lane, int kWords>
inline __m256i distance(const __m256i* query, const __m256i* code) {
  __m256i bytes = {};
  for (int w = 0; w < kWords; ++w) {
    const __m256i more = byte_popcount(_mm256_xor_si256(query[w], code[w]));
    bytes = w ? _mm256_add_epi8(bytes, more) : more;
  }
  if (sizeof(Lane) == 8) return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
  return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

template <class Lane, int kWords>
uint64_t filter_smallest(const void* queries, int64_t n_query, const void* codes, int64_t n, uint64_t bound) {
  constexpr int kQueries = kWords > 2 ? 1 : 2, kLanes = 32 / sizeof(Lane), kGroup = 8;
  const Lane* const all_codes = static_cast<const Lane*>(codes);
  const __m256i limit = splat(static_cast<Lane>(bound));
  uint64_t found = 0;
  for (int64_t q = 0; q < n_query; q += kQueries) {
    __m256i query[kQueries][kWords];
    for (int j = 0; j < kQueries; ++j) {
      for (int w = 0; w < kWords; ++w) query[j][w] = splat(static_cast<const Lane*>(queries)[(q + j) * kWords + w]);
    }
    for (int64_t i = 0; i < n; i += kGroup * kLanes) {
      __m256i smallest[kQueries];
#pragma GCC unroll 8
      for (int v = 0; v < kGroup; ++v) {
        __m256i code[kWords];
        for (int w = 0; w < kWords; ++w) code[w] = load(all_codes + w * n + i + v * kLanes);
        for (int j = 0; j < kQueries; ++j) {
          const __m256i value = distance<Lane, kWords>(query[j], code);
          smallest[j] = v ? _mm256_min_epi16(smallest[j], value) : value;
        }
      }
      __m256i any = {};
      for (const __m256i value : smallest) any = _mm256_or_si256(any, _mm256_cmpgt_epi16(limit, value));
      if (__builtin_expect(!_mm256_testz_si256(any, any), 0)) {
        for (int v = 0; v < kGroup; ++v) {
          __m256i code[kWords];
          for (int w = 0; w < kWords; ++w) code[w] = load(all_codes + w * n + i + v * kLanes);
          for (int j = 0; j < kQueries; ++j) {
            const __m256i inside = _mm256_cmpgt_epi16(limit, distance<Lane, kWords>(query[j], code));
            found += static_cast<uint64_t>(__builtin_popcount(static_cast<uint32_t>(_mm256_movemask_epi8(inside)))) / 2;
          }
        }
      }
    }
  }
  return found;
}

template <bool kSaturate, int kQueries, int kVectors>
inline __attribute__((always_inline)) void add_half_byte(const uint8_t* table, int64_t table_stride,
                                                         const uint8_t* halves, __m256i (&sums)[kQueries][kVectors]) {
  __m256i code[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) code[v] = load(halves + 32 * v);
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
    const __m256i of_query = load(table + j * table_stride);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m256i part = _mm256_shuffle_epi8(of_query, code[v]);
      sums[j][v] = kSaturate ? _mm256_adds_epu8(sums[j][v], part) : _mm256_add_epi8(sums[j][v], part);
    }
  }
}

// `codes` here are half bytes, (bits / 4, n), one byte each; `queries` their tables, (n_query, bits / 4, 32): the
// distances of a query's half byte from 0 to 15, twice. limits.py makes both. bound <= 255.
template <int kQueries, int kVectors>
uint64_t filter_by_table(int32_t bits, const void* queries, int64_t n_query, const void* codes, int64_t n,
                         uint64_t bound) {
  const int64_t n_half = bits / 4;
  const uint8_t* const tables = static_cast<const uint8_t*>(queries);
  const uint8_t* const halves = static_cast<const uint8_t*>(codes);
  const __m256i limit = _mm256_set1_epi8(static_cast<char>(bound));
  uint64_t found = 0;
  for (int64_t q = 0; q < n_query; q += kQueries) {
    const uint8_t* const table = tables + q * n_half * 32;
    for (int64_t i = 0; i < n; i += 32 * kVectors) {
      __m256i sums[kQueries][kVectors] = {};
#pragma GCC unroll 4
      for (int64_t h = 0; h + 1 < n_half; ++h) {
        add_half_byte<false>(table + h * 32, n_half * 32, halves + h * n + i, sums);
      }
      // 255 at most: with 256 bits only the last half byte can go beyond.
      const int64_t last = n_half - 1;
      add_half_byte<true>(table + last * 32, n_half * 32, halves + last * n + i, sums);
      __m256i smallest = sums[0][0];
      for (const auto& row : sums) {
        for (const __m256i sum : row) smallest = _mm256_min_epu8(smallest, sum);
      }
      const __m256i outside = _mm256_cmpeq_epi8(_mm256_max_epu8(smallest, limit), smallest);
      if (__builtin_expect(_mm256_movemask_epi8(outside) != -1, 0)) {
        for (const auto& row : sums) {
          for (const __m256i sum : row) {
            const __m256i beyond = _mm256_cmpeq_epi8(_mm256_max_epu8(sum, limit), sum);
            found += static_cast<uint64_t>(__builtin_popcount(~static_cast<uint32_t>(_mm256_movemask_epi8(beyond))));
          }
        }
      }
    }
  }
  return found;
}

}  // namespace

DSHC_LIMIT(filter_smallest_avx2) { DSHC_LIMIT_BY_LENGTH(filter_smallest, queries, n_query, codes, n, bound) }
DSHC_LIMIT(filter_table_avx2) { return filter_by_table<2, 4>(bits, queries, n_query, codes, n, bound); }
#endif
