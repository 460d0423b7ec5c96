// Weighted distances with AVX-512: a table of 16 floats is a register that VPERMPS looks up, one of 16 bytes VPSHUFB.
#include <immintrin.h>

#include "../asymmetric.h"

namespace dshc::cpu {
namespace {

struct Lanes {
  using Vector = __m512i;
  struct Wide {
    __m512i even, odd;  // 16-bit sums of the bytes at even places, and at odd ones
  };
  static constexpr int kItems = 64, kTiles = 4;

  static Vector zero() { return _mm512_setzero_si512(); }
  static Vector table(const uint8_t* from) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Vector look_up(Vector table, const uint8_t* nibbles) {
    return _mm512_shuffle_epi8(table, _mm512_loadu_si512(nibbles));
  }
  static Vector add(Vector a, Vector b) { return _mm512_adds_epu8(a, b); }
  static uint64_t at_most(Vector sums, uint32_t limit) {
    return _mm512_cmple_epu8_mask(sums, _mm512_set1_epi8(static_cast<char>(limit)));
  }
  static void add_wide(Wide* wide, Vector sums) {
    wide->even = _mm512_add_epi16(wide->even, _mm512_and_si512(sums, _mm512_set1_epi16(0xFF)));
    wide->odd = _mm512_add_epi16(wide->odd, _mm512_srli_epi16(sums, 8));
  }
  static uint64_t at_most_wide(const Wide& wide, uint32_t limit) {
    const __m512i most = _mm512_set1_epi16(static_cast<short>(limit));
    return _pdep_u64(_mm512_cmple_epu16_mask(wide.even, most), 0x5555555555555555ull) |
           _pdep_u64(_mm512_cmple_epu16_mask(wide.odd, most), 0xAAAAAAAAAAAAAAAAull);
  }
};

// Of eight words the first bytes, the second ones, ..., a word each.
inline __m512i bytes_in_turn(__m512i words) {
  const __m512i of_two = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
  // Pairs of bytes: place 4 b + l takes pair b of lane l.
  const __m512i first = _mm512_cvtepu8_epi16(_mm256_setr_epi8(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27,  //
                                                              4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31));
  return _mm512_permutexvar_epi16(first, _mm512_shuffle_epi8(words, of_two));
}

// Word w of eight codes of kWords words.
template <int kWords>
inline __m512i words_of_eight(const uint8_t* codes, int w) {
  const auto two = [w](const uint8_t* from) {  // a vector of words each, of which every kWords-th from w on is wanted
    const __m512i at = _mm512_add_epi64(_mm512_set1_epi64(w), kWords == 2 ? _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14)
                                                                          : _mm512_setr_epi64(0, 4, 8, 12, 0, 4, 8, 12));
    return _mm512_permutex2var_epi64(_mm512_loadu_si512(from), at, _mm512_loadu_si512(from + 64));
  };
  if (kWords == 1) return _mm512_loadu_si512(codes);
  if (kWords == 2) return two(codes);
  return _mm512_shuffle_i64x2(two(codes), two(codes + 128), 0x44);
}

// Whole tiles of codes that lie one after the other: 8 x 8 bytes are turned within a register, then 8 x 8 words.
template <int kWords>
void arrange_words(const uint8_t* codes, int64_t n_tiles, uint8_t* tiles) {
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int64_t tile = 0; tile < n_tiles; ++tile, codes += 8 * kWords * kWeightedTile) {
    for (int w = 0; w < kWords; ++w, tiles += 16 * kWeightedTile) {
      __m512i pairs[8], columns[8];
#pragma GCC unroll 4
      for (int i = 0; i < 8; i += 2) {
        const __m512i a = bytes_in_turn(words_of_eight<kWords>(codes + 64 * kWords * i, w));
        const __m512i b = bytes_in_turn(words_of_eight<kWords>(codes + 64 * kWords * (i + 1), w));
        pairs[i] = _mm512_unpacklo_epi64(a, b);
        pairs[i + 1] = _mm512_unpackhi_epi64(a, b);
      }
#pragma GCC unroll 2
      for (int odd = 0; odd < 2; ++odd) {
        const __m512i* p = pairs + odd;
        const __m512i low_a = _mm512_shuffle_i64x2(p[0], p[2], 0x88), low_b = _mm512_shuffle_i64x2(p[4], p[6], 0x88);
        const __m512i high_a = _mm512_shuffle_i64x2(p[0], p[2], 0xDD), high_b = _mm512_shuffle_i64x2(p[4], p[6], 0xDD);
        columns[odd] = _mm512_shuffle_i64x2(low_a, low_b, 0x88);
        columns[odd + 4] = _mm512_shuffle_i64x2(low_a, low_b, 0xDD);
        columns[odd + 2] = _mm512_shuffle_i64x2(high_a, high_b, 0x88);
        columns[odd + 6] = _mm512_shuffle_i64x2(high_a, high_b, 0xDD);
      }
#pragma GCC unroll 8
      for (int b = 0; b < 8; ++b) {
        uint8_t* to = tiles + 2 * b * kWeightedTile;
        _mm512_storeu_si512(to, _mm512_and_si512(columns[b], nibble));
        _mm512_storeu_si512(to + kWeightedTile, _mm512_and_si512(_mm512_srli_epi16(columns[b], 4), nibble));
      }
    }
  }
}

void arrange_512(const uint8_t* codes, int64_t n, int32_t n_bytes, int64_t stride, uint8_t* tiles) {
  int64_t whole = stride == n_bytes && (n_bytes == 8 || n_bytes == 16 || n_bytes == 32) ? n / kWeightedTile : 0;  // tiles
  if (n_bytes == 8) arrange_words<1>(codes, whole, tiles);
  if (n_bytes == 16) arrange_words<2>(codes, whole, tiles);
  if (n_bytes == 32) arrange_words<4>(codes, whole, tiles);
  whole *= kWeightedTile;
  arrange(codes + whole * stride, n - whole, n_bytes, stride, tiles + 2 * whole * n_bytes);
}

void distances(const float* tables, const uint8_t* tiles, int64_t n_tiles, int32_t n_bytes, float* sums) {
  const auto look_up = [](__m512 table, const uint8_t* nibbles) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles));
    return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(bytes), table);
  };
  for (int64_t tile = 0; tile < n_tiles; ++tile, sums += kWeightedTile) {
    __m512 mine[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int32_t byte = 0; byte < n_bytes; ++byte, tiles += 2 * kWeightedTile) {
      const __m512 low = _mm512_loadu_ps(tables + 32 * byte), high = _mm512_loadu_ps(tables + 32 * byte + 16);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512 of_byte = _mm512_add_ps(look_up(low, tiles + 16 * v), look_up(high, tiles + kWeightedTile + 16 * v));
        mine[v] = _mm512_add_ps(mine[v], of_byte);
      }
    }
    for (int v = 0; v < 4; ++v) _mm512_storeu_ps(sums + 16 * v, mine[v]);
  }
}

}  // namespace

extern const AsymmetricKernels kAvx512Asymmetric;
const AsymmetricKernels kAvx512Asymmetric = {arrange_512, distances, select_of<Lanes>};

}  // namespace dshc::cpu
