// The filter with AVX-512 and VPOPCNTDQ: eight 64-bit or sixteen 32-bit words per vector.
#include <immintrin.h>

#include "../listed_codes.h"
#include "../popcount_filter.h"

namespace dshc::cpu {
namespace {

struct Lanes64 {
  using Word = uint64_t;
  using Vector = __m512i;
  static constexpr int kItems = 8, kQueries = 2;

  static uint64_t popcount(Word x) { return static_cast<uint64_t>(__builtin_popcountll(x)); }
  static Vector load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static void keep(Vector& code) { __asm__("" : "+v"(code)); }
  static Vector splat(Word word) { return _mm512_set1_epi64(static_cast<long long>(word)); }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    // 0x3F: not (a and b)
    return _mm512_popcnt_epi64(score == Score::hamming ? _mm512_xor_si512(a, b) : _mm512_ternarylogic_epi64(a, b, b, 0x3F));
  }
  static Vector add(Vector a, Vector b) { return _mm512_add_epi64(a, b); }
  static Vector min(Vector a, Vector b) { return _mm512_min_epu16(a, b); }  // values fit, and 64-bit lanes are slower
  static uint32_t below(Vector counts, Vector bound) { return _mm512_cmplt_epu64_mask(counts, bound); }
};

struct Lanes32 {
  using Word = uint32_t;
  using Vector = __m512i;
  static constexpr int kItems = 16, kQueries = 2;

  static uint64_t popcount(Word x) { return static_cast<uint64_t>(__builtin_popcount(x)); }
  static Vector load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static void keep(Vector& code) { __asm__("" : "+v"(code)); }
  static Vector splat(Word word) { return _mm512_set1_epi32(static_cast<int>(word)); }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    return _mm512_popcnt_epi32(score == Score::hamming ? _mm512_xor_si512(a, b) : _mm512_ternarylogic_epi32(a, b, b, 0x3F));
  }
  static Vector add(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
  static Vector min(Vector a, Vector b) { return _mm512_min_epu16(a, b); }
  static uint32_t below(Vector counts, Vector bound) { return _mm512_cmplt_epu32_mask(counts, bound); }
};

// Words at even places of x and y, then those at odd places.
inline void part(__m512i x, __m512i y, __m512i* even, __m512i* odd) {
  *even = _mm512_permutex2var_epi64(x, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), y);
  *odd = _mm512_permutex2var_epi64(x, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), y);
}

void to_columns(const uint8_t* codes, int64_t n, int32_t n_words, uint64_t* columns, int64_t column_items) {
  const auto vector = [&](int64_t i) { return _mm512_loadu_si512(codes + 64 * i); };
  int64_t i = 0;
  if (n_words == 2) {
    for (; i + 8 <= n; i += 8) {
      prefetch(codes + 16 * i + kAhead, 128);
      __m512i words[2];
      part(vector(i / 4), vector(i / 4 + 1), words, words + 1);
      for (int w = 0; w < 2; ++w) _mm512_storeu_si512(columns + w * column_items + i, words[w]);
    }
  } else if (n_words == 4) {
    for (; i + 8 <= n; i += 8) {
      prefetch(codes + 32 * i + kAhead, 256);
      __m512i even[2], odd[2], words[4];
      part(vector(i / 2), vector(i / 2 + 1), even, odd);
      part(vector(i / 2 + 2), vector(i / 2 + 3), even + 1, odd + 1);
      part(even[0], even[1], words, words + 2);
      part(odd[0], odd[1], words + 1, words + 3);
      for (int w = 0; w < 4; ++w) _mm512_storeu_si512(columns + w * column_items + i, words[w]);
    }
  }
  to_columns_by_word(codes + i * n_words * 8, n - i, n_words, columns + i, column_items);
}

// Sums of the words of eight vectors, in their order.
inline __m512i sum_each(const __m512i* v) {
  const auto halve = [](__m512i a, __m512i b) {
    return _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
  };
  __m512i pairs[4];
  for (int i = 0; i < 4; ++i) {
    pairs[i] = _mm512_add_epi64(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
  }
  return halve(halve(pairs[0], pairs[1]), halve(pairs[2], pairs[3]));
}

// As filter_codes, eight codes at a time: a vector takes eight words of one code.
template <Score score>
void filter_long_codes_of(FilterPass& pass) {
  const int32_t n_words = pass.n_words, whole = n_words / 8 * 8;
  const __mmask8 rest = static_cast<__mmask8>((1u << (n_words - whole)) - 1);
  const auto differing = [&](const uint8_t* code, const uint8_t* query) {
    __m512i sum = _mm512_setzero_si512();
    for (int32_t w = 0; w < whole; w += 8) {
      sum = _mm512_add_epi64(sum, Lanes64::counts<score>(Lanes64::load(code + 8 * w), Lanes64::load(query + 8 * w)));
    }
    if (rest == 0) return sum;
    const __m512i counts = Lanes64::counts<score>(_mm512_maskz_loadu_epi64(rest, code + 8 * whole),
                                                  _mm512_maskz_loadu_epi64(rest, query + 8 * whole));
    return _mm512_mask_add_epi64(sum, rest, sum, counts);  // of overlap, lanes that are not there count as not shared
  };
  for (int q = 0; q < pass.n_queries; ++q) {
    const uint8_t *query = pass.queries[q], *allowed = pass.allowed[q];
    const __m512i bound = Lanes64::splat(pass.bounds[q]);
    Key* found = pass.found[q];
    const int64_t stride = 8 * n_words;
    int64_t i = 0;
    for (; i + 8 <= pass.n; i += 8) {
      prefetch(pass.columns + i * stride + kAhead, 8 * stride);
      __m512i counts[8];
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) counts[j] = differing(pass.columns + (i + j) * stride, query);
      const __m512i values = sum_each(counts);
      uint32_t mask = Lanes64::below(values, bound);
      if (mask == 0) continue;
      if (allowed) mask &= static_cast<uint32_t>(bits_at(allowed, i, 8));
      alignas(64) uint64_t all[8];
      _mm512_store_si512(all, values);
      for (; mask; mask &= mask - 1) {
        const int j = __builtin_ctz(mask);
        *found++ = make_key(all[j], pass.first + static_cast<uint64_t>(i + j));
      }
    }
    pass.found[q] = filter_codes_from<Lanes64, score, 0>(pass, q, i, found);
  }
}

void filter_long_codes(FilterPass& pass) {
  pass.score == Score::hamming ? filter_long_codes_of<Score::hamming>(pass) : filter_long_codes_of<Score::overlap>(pass);
}

// Sixteen codes of 12 bytes are three vectors of 32-bit words; word w of code i is lane 3 i + w of all three.
struct Triples16 {
  static constexpr int kItems = 16;
  __m512i words[3];

  explicit Triples16(const uint8_t* query) {
    uint32_t in_turn[48];
    for (int l = 0; l < 48; ++l) std::memcpy(in_turn + l, query + 4 * (l % 3), 4);
    for (int v = 0; v < 3; ++v) words[v] = _mm512_loadu_si512(in_turn + 16 * v);
  }
  static __m512i splat(uint32_t bound) { return _mm512_set1_epi32(static_cast<int>(bound)); }
  static uint32_t below(__m512i values, __m512i bound) { return _mm512_cmplt_epu32_mask(values, bound); }

  // Word w of the codes: of the first two vectors by one permutation, of the third by another.
  template <int w>
  static __m512i column(const __m512i* counts) {
    const __m512i at = _mm512_add_epi32(
        _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45), _mm512_set1_epi32(w));
    constexpr __mmask16 kThird = static_cast<__mmask16>(0xFFFF << ((32 - w + 2) / 3));
    return _mm512_mask_permutexvar_epi32(_mm512_permutex2var_epi32(counts[0], at, counts[1]), kThird, at, counts[2]);
  }
  template <Score score>
  __m512i values(const uint8_t* code) const {
    __m512i counts[3];
    for (int v = 0; v < 3; ++v) counts[v] = Lanes32::counts<score>(_mm512_loadu_si512(code + 64 * v), words[v]);
    return _mm512_add_epi32(_mm512_add_epi32(column<0>(counts), column<1>(counts)), column<2>(counts));
  }
};

// Behind the rows of two and four words, which become word columns in a few instructions. Measured: with five queries columns
// are level.
constexpr FilterRow long_codes_row() {
  return {"codes", 0, kBothScores, kNoMaxBound, 0, 4, kPopcountBlock, nullptr, filter_long_codes, nullptr, true};
}

}  // namespace

extern const CodeKernels kAvx512Codes;
const CodeKernels kAvx512Codes = {to_columns, near_codes_by_word<Lanes64>};

extern const PlaneFilterKernels kAvx512PlaneFilter32, kAvx512PlaneFilter64, kAvx512PlaneFilter128,
    kAvx512PlaneFilter256, kAvx512PlaneFilter512;  // plane_filter.cpp

constexpr int32_t kWorthPlanes = 48;  // queries; measured: with 32 planes are level with popcounts

extern const FilterRow kAvx512Filters[], kAvx512BitMatrixFilters[];
const FilterRow kAvx512Filters[] = {
    triples_row<Triples16>(),
    ragged_row<Lanes64>(),
    codes_row<Lanes64, 3>(kMostForCodes),
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 3>(),
    popcount_row<Lanes64, 4>(),
    long_codes_row(),
    popcount_row<Lanes64, 0>(),
};
const FilterRow kAvx512BitMatrixFilters[] = {
    triples_row<Triples16>(),
    ragged_row<Lanes64>(),
    codes_row<Lanes64, 3>(kMostForCodes),
    plane_row(4, kWorthPlanes, &kAvx512PlaneFilter32),
    plane_row(8, kWorthPlanes, &kAvx512PlaneFilter64),
    plane_row(16, kWorthPlanes, &kAvx512PlaneFilter128),
    plane_row(32, kWorthPlanes, &kAvx512PlaneFilter256),
    plane_row(64, kWorthPlanes, &kAvx512PlaneFilter512),
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 3>(),
    popcount_row<Lanes64, 4>(),
    long_codes_row(),
    popcount_row<Lanes64, 0>(),
};

}  // namespace dshc::cpu
