// AVX-512 with VPOPCNTDQ: four queries in registers share each load of codes. Compiled with -march=native.
#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512BW__) && defined(__AVX512VBMI__)
#include <immintrin.h>

#include "limits.h"

namespace {

constexpr int kQueries = 4, kGroup = 8;  // vectors of codes between two branches

inline __m512i splat(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
inline __m512i splat(uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }

template <class Lane>
constexpr bool kHalf = sizeof(Lane) == 4;

template <class Lane>
constexpr int kLanes = 64 / sizeof(Lane);

template <class Lane>
inline __m512i add(__m512i a, __m512i b) {
  return kHalf<Lane> ? _mm512_add_epi32(a, b) : _mm512_add_epi64(a, b);
}

template <class Lane>
inline uint32_t below(__m512i a, __m512i b) {
  return kHalf<Lane> ? _mm512_cmplt_epu32_mask(a, b) : _mm512_cmplt_epu64_mask(a, b);
}

template <class Lane, int kWords>
inline __m512i distance(const __m512i* query, const __m512i* code) {
  __m512i sum = {};
  for (int w = 0; w < kWords; ++w) {
    const __m512i bits = _mm512_xor_si512(query[w], code[w]);
    const __m512i count = kHalf<Lane> ? _mm512_popcnt_epi32(bits) : _mm512_popcnt_epi64(bits);
    sum = w ? add<Lane>(sum, count) : count;
  }
  return sum;
}

template <class Lane, int kWords>
inline void load(const Lane* codes, int64_t n, int64_t i, __m512i* code) {
  for (int w = 0; w < kWords; ++w) code[w] = _mm512_loadu_si512(codes + w * n + i);
}

template <class Lane, int kWords>
inline void load_queries(const Lane* queries, int64_t q, __m512i (*query)[kWords]) {
  for (int j = 0; j < kQueries; ++j) {
    for (int w = 0; w < kWords; ++w) query[j][w] = splat(queries[(q + j) * kWords + w]);
  }
}

template <class Lane, int kWords>
uint64_t count(const void* queries, int64_t n_query, const void* codes, int64_t n) {
  uint64_t total = 0;
  for (int64_t q = 0; q < n_query; q += kQueries) {
    __m512i query[kQueries][kWords], sums[kQueries] = {};
    load_queries<Lane, kWords>(static_cast<const Lane*>(queries), q, query);
    for (int64_t i = 0; i < n; i += 2 * kLanes<Lane>) {
#pragma GCC unroll 2
      for (int u = 0; u < 2; ++u) {
        __m512i code[kWords];
        load<Lane, kWords>(static_cast<const Lane*>(codes), n, i + u * kLanes<Lane>, code);
#pragma GCC unroll 4
        for (int j = 0; j < kQueries; ++j) sums[j] = add<Lane>(sums[j], distance<Lane, kWords>(query[j], code));
      }
    }
    for (const __m512i sum : sums) {
      total += static_cast<uint64_t>(
          kHalf<Lane> ? static_cast<uint32_t>(_mm512_reduce_add_epi32(sum)) : _mm512_reduce_add_epi64(sum));
    }
  }
  return total;
}

// The answers of a group in which some pair is inside. Unrolled, GCC 12 spills the masks as one byte and counts four.
template <class Lane, int kWords>
__attribute__((noinline)) uint64_t count_inside(const Lane* queries, int64_t q, const Lane* codes, int64_t n, int64_t i,
                                                int n_vectors, uint64_t bound) {
  __m512i query[kQueries][kWords], code[kWords];
  load_queries<Lane, kWords>(queries, q, query);
  uint64_t found = 0;
#pragma GCC unroll 1
  for (int v = 0; v < n_vectors; ++v) {
    load<Lane, kWords>(codes, n, i + v * kLanes<Lane>, code);
    for (int j = 0; j < kQueries; ++j) {
      const __m512i value = distance<Lane, kWords>(query[j], code);
      found += static_cast<uint64_t>(__builtin_popcount(below<Lane>(value, splat(static_cast<Lane>(bound)))));
    }
  }
  return found;
}

// One compare for each vector of distances, one branch for four queries.
template <class Lane, int kWords>
uint64_t filter_each(const void* queries, int64_t n_query, const void* codes, int64_t n, uint64_t bound) {
  const Lane* const all_queries = static_cast<const Lane*>(queries);
  const Lane* const all_codes = static_cast<const Lane*>(codes);
  const __m512i limit = splat(static_cast<Lane>(bound));
  uint64_t found = 0;
  for (int64_t q = 0; q < n_query; q += kQueries) {
    __m512i query[kQueries][kWords];
    load_queries<Lane, kWords>(all_queries, q, query);
    for (int64_t i = 0; i < n; i += kLanes<Lane>) {
      __m512i code[kWords];
      load<Lane, kWords>(all_codes, n, i, code);
      uint32_t any = 0;
#pragma GCC unroll 4
      for (int j = 0; j < kQueries; ++j) any |= below<Lane>(distance<Lane, kWords>(query[j], code), limit);
      if (__builtin_expect(any != 0, 0)) found += count_inside<Lane, kWords>(all_queries, q, all_codes, n, i, 1, bound);
    }
  }
  return found;
}

// The smallest distance of a group of vectors for each lane and query, compared once for the group. A 64-bit lane's
// upper half is 0, and the minimum of 32 bits is the faster one.
template <class Lane, int kWords>
uint64_t filter_smallest(const void* queries, int64_t n_query, const void* codes, int64_t n, uint64_t bound) {
  const Lane* const all_queries = static_cast<const Lane*>(queries);
  const Lane* const all_codes = static_cast<const Lane*>(codes);
  const __m512i limit = splat(static_cast<Lane>(bound));
  uint64_t found = 0;
  for (int64_t q = 0; q < n_query; q += kQueries) {
    __m512i query[kQueries][kWords];
    load_queries<Lane, kWords>(all_queries, q, query);
    for (int64_t i = 0; i < n; i += kGroup * kLanes<Lane>) {
      __m512i smallest[kQueries];
#pragma GCC unroll 8
      for (int v = 0; v < kGroup; ++v) {
        __m512i code[kWords];
        load<Lane, kWords>(all_codes, n, i + v * kLanes<Lane>, code);
#pragma GCC unroll 4
        for (int j = 0; j < kQueries; ++j) {
          const __m512i value = distance<Lane, kWords>(query[j], code);
          smallest[j] = v ? _mm512_min_epu32(smallest[j], value) : value;
        }
      }
      uint32_t any = 0;
      for (const __m512i value : smallest) any |= below<Lane>(value, limit);
      if (__builtin_expect(any != 0, 0)) {
        found += count_inside<Lane, kWords>(all_queries, q, all_codes, n, i, kGroup, bound);
      }
    }
  }
  return found;
}

// 64 distances as bytes, in order: vectors of 32 or 64 bits packed in-lane, then one permutation of bytes.
template <class Lane>
inline __m512i pack_bytes(const __m512i* v, __m512i order) {
  if (kHalf<Lane>) {
    const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi32(v[0], v[1]), _mm512_packus_epi32(v[2], v[3]));
    return _mm512_permutexvar_epi8(order, bytes);
  }
  const __m512i words[4] = {_mm512_packus_epi32(v[0], v[1]), _mm512_packus_epi32(v[2], v[3]),
                            _mm512_packus_epi32(v[4], v[5]), _mm512_packus_epi32(v[6], v[7])};
  const __m512i bytes =
      _mm512_packus_epi16(_mm512_packus_epi32(words[0], words[1]), _mm512_packus_epi32(words[2], words[3]));
  return _mm512_permutexvar_epi8(order, bytes);
}

// Distances stored as bytes, one query after the other; returns the sum of those of the last query.
template <class Lane, int kWords>
uint64_t store(const void* queries, int64_t n_query, const void* codes, int64_t n, uint8_t* out) {
  constexpr int kVectors = 64 / kLanes<Lane>, kPart = 16 / kVectors;  // a 128-bit part holds kPart bytes of each vector
  alignas(64) uint8_t places[64];
  for (int b = 0; b < 64; ++b) {
    const int vector = b / kLanes<Lane>, lane = b % kLanes<Lane>;
    places[b] = static_cast<uint8_t>(lane / kPart * 16 + vector * kPart + lane % kPart);
  }
  const __m512i order = _mm512_load_si512(places);
  for (int64_t q = 0; q < n_query; ++q) {
    __m512i query[kWords];
    for (int w = 0; w < kWords; ++w) query[w] = splat(static_cast<const Lane*>(queries)[q * kWords + w]);
    for (int64_t i = 0; i < n; i += 64) {
      __m512i values[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        __m512i code[kWords];
        load<Lane, kWords>(static_cast<const Lane*>(codes), n, i + v * kLanes<Lane>, code);
        values[v] = distance<Lane, kWords>(query, code);
      }
      _mm512_storeu_si512(out + i, pack_bytes<Lane>(values, order));
    }
  }
  uint64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += out[i];
  return sum;
}

}  // namespace

DSHC_LIMIT(count_avx512) { DSHC_LIMIT_BY_LENGTH(count, queries, n_query, codes, n) }
DSHC_LIMIT(filter_each_avx512) { DSHC_LIMIT_BY_LENGTH(filter_each, queries, n_query, codes, n, bound) }
DSHC_LIMIT(filter_smallest_avx512) { DSHC_LIMIT_BY_LENGTH(filter_smallest, queries, n_query, codes, n, bound) }
DSHC_LIMIT(store_avx512) { DSHC_LIMIT_BY_LENGTH(store, queries, n_query, codes, n, out) }
#endif
