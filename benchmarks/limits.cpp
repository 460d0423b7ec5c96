// What this processor can do at most, for the share of the limit that a benchmark prints: XOR, popcount and add (count);
// XOR, popcount, compare with a bound and branch on any survivor (filter); over codes in the first-level cache, four
// queries at a time so that loads are shared. Compiled with -O3 -march=native when a benchmark starts. n is a multiple of 8.
#include <cstdint>

#if defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>
#endif

extern "C" {

uint64_t count_pairs(const uint64_t* queries, int64_t n_query, const uint64_t* codes, int64_t n) {
  uint64_t sum = 0;
  for (int64_t q = 0; q + 4 <= n_query; q += 4) {
#if defined(__AVX512VPOPCNTDQ__)
    __m512i query[4], sums[4];
    for (int j = 0; j < 4; ++j) {
      query[j] = _mm512_set1_epi64(static_cast<long long>(queries[q + j]));
      sums[j] = _mm512_setzero_si512();
    }
    for (int64_t i = 0; i < n; i += 8) {
      const __m512i code = _mm512_loadu_si512(codes + i);
      for (int j = 0; j < 4; ++j) {
        sums[j] = _mm512_add_epi64(sums[j], _mm512_popcnt_epi64(_mm512_xor_si512(query[j], code)));
      }
    }
    for (int j = 0; j < 4; ++j) sum += static_cast<uint64_t>(_mm512_reduce_add_epi64(sums[j]));
#else
    uint64_t sums[4] = {};
    for (int64_t i = 0; i < n; ++i) {
      for (int j = 0; j < 4; ++j) sums[j] += static_cast<uint64_t>(__builtin_popcountll(queries[q + j] ^ codes[i]));
    }
    sum += sums[0] + sums[1] + sums[2] + sums[3];
#endif
  }
  return sum;
}

uint64_t filter_pairs(const uint64_t* queries, int64_t n_query, const uint64_t* codes, int64_t n, uint64_t bound) {
  uint64_t found = 0;
  for (int64_t q = 0; q + 4 <= n_query; q += 4) {
#if defined(__AVX512VPOPCNTDQ__)
    const __m512i limit = _mm512_set1_epi64(static_cast<long long>(bound));
    __m512i query[4];
    for (int j = 0; j < 4; ++j) query[j] = _mm512_set1_epi64(static_cast<long long>(queries[q + j]));
    for (int64_t i = 0; i < n; i += 8) {
      const __m512i code = _mm512_loadu_si512(codes + i);
      __mmask8 inside[4];
      for (int j = 0; j < 4; ++j) {
        inside[j] = _mm512_cmplt_epu64_mask(_mm512_popcnt_epi64(_mm512_xor_si512(query[j], code)), limit);
      }
      const unsigned any = inside[0] | inside[1] | inside[2] | inside[3];
      if (__builtin_expect(any != 0, 0)) {
        for (int j = 0; j < 4; ++j) found += static_cast<uint64_t>(__builtin_popcount(inside[j]));
      }
    }
#else
    uint64_t founds[4] = {};
    for (int64_t i = 0; i < n; ++i) {
      for (int j = 0; j < 4; ++j) {
        founds[j] += static_cast<uint64_t>(__builtin_popcountll(queries[q + j] ^ codes[i])) < bound;
      }
    }
    found += founds[0] + founds[1] + founds[2] + founds[3];
#endif
  }
  return found;
}

}  // extern "C"
