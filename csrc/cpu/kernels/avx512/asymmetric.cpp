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
const AsymmetricKernels kAvx512Asymmetric = {arrange, distances, select_of<Lanes>};

}  // namespace dshc::cpu
