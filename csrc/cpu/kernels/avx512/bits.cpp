// Bits and values with AVX-512: a code is a mask as it lies.
#include <immintrin.h>

#include "../bits.h"

namespace dshc::cpu {
namespace {

bool pack_above(const float* values, const float* thresholds, int64_t n_bits, uint8_t* code) {
  const __m512 zero = _mm512_setzero_ps();
  uint32_t nan = 0;
  int64_t j = 0;
  for (; j + 16 <= n_bits; j += 16) {
    const __m512 v = _mm512_loadu_ps(values + j);
    nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512 threshold = thresholds ? _mm512_loadu_ps(thresholds + j) : zero;
    const auto bits = static_cast<uint16_t>(_mm512_cmp_ps_mask(v, threshold, _CMP_GT_OQ));
    std::memcpy(code + j / 8, &bits, 2);
  }
  const bool rest = thresholds ? pack_above_from(j, values, thresholds, n_bits, code)
                               : pack_above_from(j, values, nullptr, n_bits, code);
  return nan != 0 || rest;
}

void pack_bytes(const uint8_t* bytes, int64_t n_bits, uint8_t* code) {
  int64_t j = 0;
  for (; j + 64 <= n_bits; j += 64) {
    const __m512i v = _mm512_loadu_si512(bytes + j);
    const uint64_t bits = _mm512_test_epi8_mask(v, v);
    std::memcpy(code + j / 8, &bits, 8);
  }
  pack_bytes_from(j, bytes, n_bits, code);
}

void unpack_bits(const uint8_t* code, int64_t n_bits, uint8_t zero, uint8_t one, uint8_t* values) {
  const __m512i zeros = _mm512_set1_epi8(static_cast<char>(zero)), ones = _mm512_set1_epi8(static_cast<char>(one));
  int64_t j = 0;
  for (; j + 64 <= n_bits; j += 64) {
    uint64_t bits;
    std::memcpy(&bits, code + j / 8, 8);
    _mm512_storeu_si512(values + j, _mm512_mask_blend_epi8(bits, zeros, ones));
  }
  unpack_bits_from(j, code, n_bits, zero, one, values);
}

// Eight bytes of a code at a time, whose sums stay in registers.
void signed_sums(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const float* weights, int64_t n_rows,
                 float* sums) {
  int64_t byte = 0;
  for (; byte + 8 <= n_bytes; byte += 8) {
    __m512 mine[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t i = 0; i < n_rows; ++i) {
      uint64_t bits;
      std::memcpy(&bits, codebook + (rows ? rows[i] : i) * n_bytes + byte, 8);
      const __m512 plus = _mm512_set1_ps(weights[i]), minus = _mm512_set1_ps(-weights[i]);
      for (int part = 0; part < 4; ++part) {
        const auto mask = static_cast<__mmask16>(bits >> (16 * part));
        mine[part] = _mm512_add_ps(mine[part], _mm512_mask_blend_ps(mask, minus, plus));
      }
    }
    for (int part = 0; part < 4; ++part) _mm512_storeu_ps(sums + 8 * byte + 16 * part, mine[part]);
  }
  signed_sums_from<float>(byte, codebook, n_bytes, rows, weights, n_rows, sums);
}

void add_signed(const float* signs, int64_t n_codes, int64_t n_bits, const float* weights, int64_t stride, int64_t n_rows,
                float* sums) {
  add_signed_of<16, 6, 4>(signs, n_codes, n_bits, weights, stride, n_rows, sums);
}

}  // namespace

extern const BitKernels kAvx512Bits;
const BitKernels kAvx512Bits = {pack_above, kPositiveBytes, pack_bytes, unpack_bits, signed_sums, add_signed, signs_of};

}  // namespace dshc::cpu
