// The filter with AVX-512 and VPOPCNTDQ: eight 64-bit or sixteen 32-bit words per vector.
#include <immintrin.h>

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
      __m512i words[2];
      part(vector(i / 4), vector(i / 4 + 1), words, words + 1);
      for (int w = 0; w < 2; ++w) _mm512_storeu_si512(columns + w * column_items + i, words[w]);
    }
  } else if (n_words == 4) {
    for (; i + 8 <= n; i += 8) {
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

}  // namespace

extern const CodeKernels kAvx512Codes;
const CodeKernels kAvx512Codes = {to_columns};

extern const PlaneFilterKernels kAvx512PlaneFilter32, kAvx512PlaneFilter64, kAvx512PlaneFilter128;  // plane_filter.cpp

namespace {

// Measured: with 32 queries planes are level with popcounts.
constexpr FilterRow plane_row(int32_t width, const PlaneFilterKernels* planes) {
  return {"planes", width, score_bit(Score::hamming), 8 * width, 48, kPopcountBlock, nullptr, nullptr, planes};
}

}  // namespace

extern const FilterRow kAvx512Filters[], kAvx512BitMatrixFilters[];
const FilterRow kAvx512Filters[] = {
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 4>(),
    popcount_row<Lanes64, 0>(),
};
const FilterRow kAvx512BitMatrixFilters[] = {
    plane_row(4, &kAvx512PlaneFilter32),
    plane_row(8, &kAvx512PlaneFilter64),
    plane_row(16, &kAvx512PlaneFilter128),
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 4>(),
    popcount_row<Lanes64, 0>(),
};

}  // namespace dshc::cpu
