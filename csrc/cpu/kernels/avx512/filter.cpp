// The filter with AVX-512 and VPOPCNTDQ: eight 64-bit or sixteen 32-bit words per vector.
#include <immintrin.h>

#include "../code_filter.h"
#include "../listed_codes.h"
#include "codes_at_once.h"
#include "filters.h"

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

}  // namespace

extern const CodeKernels kAvx512Codes;
const CodeKernels kAvx512Codes = {to_columns, near_codes_by_word<Lanes64>};

extern const PlaneFilterKernels kAvx512PlaneFilter32, kAvx512PlaneFilter64, kAvx512PlaneFilter128,
    kAvx512PlaneFilter256, kAvx512PlaneFilter512;  // plane_filter.cpp

constexpr int32_t kWorthPlanes = 48;  // queries; measured: with 32 planes are level with popcounts

// For how many queries codes are read as they lie: measured, word columns win from 3 on up to 32 bytes, from 9 on where a code
// leaves lanes of its last vector empty, never where it fills them.
//
// Planes come first, so that the table goes without them from behind them on; few queries pass them by.
constexpr FilterRow kAvx512Filters[] = {
    plane_row(4, kWorthPlanes, &kAvx512PlaneFilter32),
    plane_row(8, kWorthPlanes, &kAvx512PlaneFilter64),
    plane_row(16, kWorthPlanes, &kAvx512PlaneFilter128),
    plane_row(32, kWorthPlanes, &kAvx512PlaneFilter256),
    plane_row(64, kWorthPlanes, &kAvx512PlaneFilter512),
    triples_row<Triples16>(),
    together_row<Lanes64, SlotCodes<16, false>>(16, kMostForCodes, kRagged),
    together_row<Lanes64, SlotCodes<16, true>>(16, kMostForCodes),
    together_row<Lanes64, SlotCodes<32, false>>(24, kMostForCodes, kRagged),
    together_row<Lanes64, SlotCodes<32, false>>(24, kMostForCodes),
    together_row<Lanes64, SlotCodes<32, false>>(32, kMostForCodes, kRagged),
    together_row<Lanes64, SlotCodes<32, true>>(32, kMostForCodes),
    together_row<Lanes64, LongCodes<kRagged>>(0, kMostForCodes, kRagged),
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 3>(),
    popcount_row<Lanes64, 4>(),
    together_row<Lanes64, LongCodes<40>>(40, 8),
    together_row<Lanes64, LongCodes<48>>(48, 8),
    together_row<Lanes64, LongCodes<56>>(56, 8),
    together_row<Lanes64, LongCodes<64>>(64, kAnyQueries),
    together_row<Lanes64, LongCodes<80>>(80, 8),
    together_row<Lanes64, LongCodes<96>>(96, 8),
    together_row<Lanes64, LongCodes<112>>(112, 8),
    together_row<Lanes64, LongCodes<128>>(128, kAnyQueries),
    together_row<Lanes64, LongCodes<0>>(0, 4),
    popcount_row<Lanes64, 0>(),
};
static_assert(kAvx512Filters[kAvx512PlaneRows - 1].min_queries == kWorthPlanes &&
                  kAvx512Filters[kAvx512PlaneRows].min_queries != kWorthPlanes,
              "so many rows of planes");

}  // namespace dshc::cpu
