// The filter with AVX2: byte popcounts by table look-up (vpshufb), summed to words by vpsadbw or multiply-add.
#include <immintrin.h>

#include "../code_filter.h"
#include "../listed_codes.h"
#include "byte_popcount.h"
#include "codes_at_once.h"
#include "nibble_filter.h"

namespace dshc::cpu {
namespace {

template <Score score>
inline __m256i combined_byte_popcount(__m256i a, __m256i b) {
  const __m256i ones = _mm256_set1_epi8(-1);
  return byte_popcount(score == Score::hamming ? _mm256_xor_si256(a, b) : _mm256_xor_si256(_mm256_and_si256(a, b), ones));
}

struct Lanes64 {
  using Word = uint64_t;
  using Vector = __m256i;
  static constexpr int kItems = 4, kQueries = 2;

  static uint64_t popcount(Word x) { return static_cast<uint64_t>(__builtin_popcountll(x)); }
  static Vector load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void keep(Vector& code) { __asm__("" : "+x"(code)); }
  static Vector splat(Word word) { return _mm256_set1_epi64x(static_cast<long long>(word)); }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    return _mm256_sad_epu8(combined_byte_popcount<score>(a, b), _mm256_setzero_si256());
  }
  static Vector add(Vector a, Vector b) { return _mm256_add_epi64(a, b); }
  static Vector min(Vector a, Vector b) { return _mm256_min_epu16(a, b); }
  static uint32_t below(Vector counts, Vector bound) {
    return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(bound, counts))));
  }
};

struct Lanes32 {
  using Word = uint32_t;
  using Vector = __m256i;
  static constexpr int kItems = 8, kQueries = 2;

  static uint64_t popcount(Word x) { return static_cast<uint64_t>(__builtin_popcount(x)); }
  static Vector load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void keep(Vector& code) { __asm__("" : "+x"(code)); }
  static Vector splat(Word word) { return _mm256_set1_epi32(static_cast<int>(word)); }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    const __m256i pairs = _mm256_maddubs_epi16(combined_byte_popcount<score>(a, b), _mm256_set1_epi8(1));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
  static Vector add(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
  static Vector min(Vector a, Vector b) { return _mm256_min_epu16(a, b); }
  static uint32_t below(Vector counts, Vector bound) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(bound, counts))));
  }
};

// Eight codes of 12 bytes are three vectors of 32-bit words; word w of code i is lane 3 i + w of all three.
struct Triples8 {
  static constexpr int kItems = 8;
  __m256i words[3];

  explicit Triples8(const uint8_t* query) {
    uint32_t in_turn[24];
    for (int l = 0; l < 24; ++l) std::memcpy(in_turn + l, query + 4 * (l % 3), 4);
    for (int v = 0; v < 3; ++v) words[v] = Lanes64::load(reinterpret_cast<const uint8_t*>(in_turn + 8 * v));
  }
  static __m256i splat(uint32_t bound) { return _mm256_set1_epi32(static_cast<int>(bound)); }
  static uint32_t below(__m256i values, __m256i bound) {  // both are small
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(bound, values))));
  }

  template <Score score>
  __m256i values(const uint8_t* code) const {
    const __m256i ones = _mm256_set1_epi32(-1);
    __m256i counts[3];
    for (int v = 0; v < 3; ++v) {
      const __m256i at = Lanes64::load(code + 32 * v);
      const __m256i differing = score == Score::hamming ? _mm256_xor_si256(at, words[v])
                                                        : _mm256_xor_si256(_mm256_and_si256(at, words[v]), ones);
      counts[v] = byte_popcount(differing);
    }
    // Lanes 0 3 6 | 1 4 7 | 2 5 of the codes' first words lie in the first, second and third vector; the others behind them.
    const auto column = [&](__m256i a, __m256i b, __m256i c, int w) {
      const __m256i at = _mm256_add_epi32(_mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21), _mm256_set1_epi32(w));
      const __m256i of_a = _mm256_permutevar8x32_epi32(a, at), of_b = _mm256_permutevar8x32_epi32(b, at);
      const __m256i of_c = _mm256_permutevar8x32_epi32(c, at);
      const __m256i in_b = _mm256_cmpgt_epi32(at, _mm256_set1_epi32(7)), in_c = _mm256_cmpgt_epi32(at, _mm256_set1_epi32(15));
      return _mm256_blendv_epi8(_mm256_blendv_epi8(of_a, of_b, in_b), of_c, in_c);
    };
    // Bytes of three words add up to 24 at most before they are added across.
    const __m256i bytes = _mm256_add_epi8(_mm256_add_epi8(column(counts[0], counts[1], counts[2], 0),
                                                          column(counts[0], counts[1], counts[2], 1)),
                                          column(counts[0], counts[1], counts[2], 2));
    return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
  }
};

void to_columns(const uint8_t* codes, int64_t n, int32_t n_words, uint64_t* columns, int64_t column_items) {
  const auto store = [&](int32_t w, int64_t i, __m256i words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(columns + w * column_items + i), words);
  };
  int64_t i = 0;
  if (n_words == 2) {
    for (; i + 4 <= n; i += 4) {
      prefetch(codes + 16 * i + kAhead, 64);
      const __m256i first = Lanes64::load(codes + 16 * i), last = Lanes64::load(codes + 16 * i + 32);
      const __m256i even = _mm256_permute2x128_si256(first, last, 0x20), odd = _mm256_permute2x128_si256(first, last, 0x31);
      store(0, i, _mm256_unpacklo_epi64(even, odd));
      store(1, i, _mm256_unpackhi_epi64(even, odd));
    }
  } else if (n_words == 4) {
    for (; i + 4 <= n; i += 4) {
      prefetch(codes + 32 * i + kAhead, 128);
      __m256i items[4], low[2], high[2];
      for (int k = 0; k < 4; ++k) items[k] = Lanes64::load(codes + 32 * (i + k));
      for (int k = 0; k < 2; ++k) {
        low[k] = _mm256_unpacklo_epi64(items[2 * k], items[2 * k + 1]);
        high[k] = _mm256_unpackhi_epi64(items[2 * k], items[2 * k + 1]);
      }
      store(0, i, _mm256_permute2x128_si256(low[0], low[1], 0x20));
      store(1, i, _mm256_permute2x128_si256(high[0], high[1], 0x20));
      store(2, i, _mm256_permute2x128_si256(low[0], low[1], 0x31));
      store(3, i, _mm256_permute2x128_si256(high[0], high[1], 0x31));
    }
  }
  to_columns_by_word(codes + i * n_words * 8, n - i, n_words, columns + i, column_items);
}

}  // namespace

extern const CodeKernels kAvx2Codes;
const CodeKernels kAvx2Codes = {to_columns, near_codes_by_word<Lanes64>};

extern const PlaneFilters kAvx2PlaneFilters;  // plane_filter.cpp

// Queries; measured: with 16 planes are level with nibbles, where codes do not fill their words or are short. Beyond 256 bits
// there are no nibbles.
constexpr int32_t kWorthPlanes = 32, kWorthLongPlanes = 16;

// Where there are no planes, codes of 64 and 128 bytes are read as they lie whatever the number of queries: measured, 1.4 times
// the pace of word columns.
extern const FilterRow kAvx2Filters[];
const FilterRow kAvx2Filters[] = {
    triples_row<Triples8>(),
    together_row<Lanes64, SlotCodes<2, true>>(16, kMostForCodes, kRagged),
    together_row<Lanes64, SlotCodes<2, false>>(16, kMostForCodes),
    together_row<Lanes64, SlotCodes<3, true>>(24, kMostForCodes, kRagged),
    together_row<Lanes64, SlotCodes<3, false>>(24, kMostForCodes),
    together_row<Lanes64, SlotCodes<4, true>>(32, kMostForCodes, kRagged),
    together_row<Lanes64, SlotCodes<4, false>>(32, kMostForCodes),
    ragged_row<Lanes64>(),
    plane_row(4, kWorthPlanes, &kAvx2PlaneFilters.of_32),
    plane_row(8, kWorthPlanes, &kAvx2PlaneFilters.of_64),
    plane_row(16, kWorthPlanes, &kAvx2PlaneFilters.of_128),
    plane_row(24, kWorthPlanes, &kAvx2PlaneFilters.of_192),
    plane_row(32, kWorthPlanes, &kAvx2PlaneFilters.of_256),
    plane_row(48, kWorthLongPlanes, &kAvx2PlaneFilters.of_384),
    plane_row(64, kWorthLongPlanes, &kAvx2PlaneFilters.of_512),
    plane_row(96, kWorthLongPlanes, &kAvx2PlaneFilters.of_768),
    plane_row(128, kWorthLongPlanes, &kAvx2PlaneFilters.of_1024),
    together_row<Lanes64, LongCodes<8>>(64, kAnyQueries),
    together_row<Lanes64, LongCodes<16>>(128, kAnyQueries),
    nibble_row<Lanes32, 1>(4),
    nibble_row<Lanes64, 1>(8),
    nibble_row<Lanes64, 2>(16),
    nibble_row<Lanes64, 0>(24),
    nibble_row<Lanes64, 4>(32),
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 3>(),
    popcount_row<Lanes64, 4>(),
    together_row<Lanes64, LongCodes<0>>(0, 8),
    popcount_row<Lanes64, 0>(),
};

}  // namespace dshc::cpu
