// Weighted distances with AVX2: a table of 16 floats is two registers that VPERMPS looks up, one of 16 bytes VPSHUFB.
#include <immintrin.h>

#include "../asymmetric.h"

namespace dshc::cpu {
namespace {

struct Lanes {
  using Vector = __m256i;
  struct Wide {
    __m256i even, odd;  // 16-bit sums of the bytes at even places, and at odd ones
  };
  static constexpr int kItems = 32, kTiles = 4;

  static Vector zero() { return _mm256_setzero_si256(); }
  static Vector table(const uint8_t* from) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Vector look_up(Vector table, const uint8_t* nibbles) {
    return _mm256_shuffle_epi8(table, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(nibbles)));
  }
  static Vector add(Vector a, Vector b) { return _mm256_adds_epu8(a, b); }
  static uint64_t mask_of(Vector bytes) { return static_cast<uint32_t>(_mm256_movemask_epi8(bytes)); }
  static uint64_t at_most(Vector sums, uint32_t limit) {
    const __m256i most = _mm256_set1_epi8(static_cast<char>(limit));
    return mask_of(_mm256_cmpeq_epi8(_mm256_min_epu8(sums, most), sums));
  }
  static void add_wide(Wide* wide, Vector sums) {
    wide->even = _mm256_add_epi16(wide->even, _mm256_and_si256(sums, _mm256_set1_epi16(0xFF)));
    wide->odd = _mm256_add_epi16(wide->odd, _mm256_srli_epi16(sums, 8));
  }
  static uint64_t at_most_wide(const Wide& wide, uint32_t limit) {
    const __m256i most = _mm256_set1_epi16(static_cast<short>(limit));
    const __m256i even = _mm256_cmpeq_epi16(_mm256_min_epu16(wide.even, most), wide.even);
    const __m256i odd = _mm256_cmpeq_epi16(_mm256_min_epu16(wide.odd, most), wide.odd);
    return mask_of(_mm256_blendv_epi8(odd, even, _mm256_set1_epi16(0xFF)));
  }
};

// As Columns16, with the codes 16 to 31 in the upper lanes.
struct Columns32 {
  typedef uint8_t Vector __attribute__((vector_size(32)));
  static constexpr int kItems = 32;

  static void transpose(const uint8_t* codes, int64_t stride, Vector* columns) {
    const auto two = [&](int64_t i) {
      if (stride == 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 8 * i));
      return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i * stride)),
                                _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + (i + 1) * stride)));
    };
    const __m256i by_byte = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    __m256i pairs[8], fours[8], eights[8];
    for (int i = 0; i < 8; ++i) {
      pairs[i] = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(two(2 * i)), two(2 * i + 16), 1), by_byte);
    }
    for (int i = 0; i < 4; ++i) {
      fours[2 * i] = _mm256_unpacklo_epi16(pairs[2 * i], pairs[2 * i + 1]);
      fours[2 * i + 1] = _mm256_unpackhi_epi16(pairs[2 * i], pairs[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      for (int part = 0; part < 2; ++part) {
        eights[4 * i + 2 * part] = _mm256_unpacklo_epi32(fours[4 * i + part], fours[4 * i + 2 + part]);
        eights[4 * i + 2 * part + 1] = _mm256_unpackhi_epi32(fours[4 * i + part], fours[4 * i + 2 + part]);
      }
    }
    for (int part = 0; part < 4; ++part) {
      columns[2 * part] = reinterpret_cast<Vector>(_mm256_unpacklo_epi64(eights[part], eights[4 + part]));
      columns[2 * part + 1] = reinterpret_cast<Vector>(_mm256_unpackhi_epi64(eights[part], eights[4 + part]));
    }
  }
};

void distances(const float* tables, const uint8_t* tiles, int64_t n_tiles, int32_t n_bytes, float* sums) {
  // Bit 3 of an index, which VPERMPS passes over, chooses the half of the table.
  const auto look_up = [](__m256 first, __m256 second, const uint8_t* nibbles) {
    const __m256i at = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(nibbles)));
    const __m256 which = _mm256_castsi256_ps(_mm256_slli_epi32(at, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(first, at), _mm256_permutevar8x32_ps(second, at), which);
  };
  for (int64_t tile = 0; tile < n_tiles; ++tile, sums += kWeightedTile) {
    __m256 mine[8] = {};
    for (int32_t byte = 0; byte < n_bytes; ++byte, tiles += 2 * kWeightedTile) {
      const float* table = tables + 32 * byte;
      const __m256 low[2] = {_mm256_loadu_ps(table), _mm256_loadu_ps(table + 8)};
      const __m256 high[2] = {_mm256_loadu_ps(table + 16), _mm256_loadu_ps(table + 24)};
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        const __m256 of_byte = _mm256_add_ps(look_up(low[0], low[1], tiles + 8 * v),
                                             look_up(high[0], high[1], tiles + kWeightedTile + 8 * v));
        mine[v] = _mm256_add_ps(mine[v], of_byte);
      }
    }
    for (int v = 0; v < 8; ++v) _mm256_storeu_ps(sums + 8 * v, mine[v]);
  }
}

}  // namespace

extern const AsymmetricKernels kAvx2Asymmetric;
const AsymmetricKernels kAvx2Asymmetric = {arrange_by<Columns32>, distances, select_of<Lanes>};

}  // namespace dshc::cpu
