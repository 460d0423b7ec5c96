// Bits and values with AVX2: a sign bit of each float by one instruction, bits of a byte to lanes by a mask for each lane.
#include <immintrin.h>

#include "../bits.h"

namespace dshc::cpu {
namespace {

bool pack_above(const float* values, const float* thresholds, int64_t n_bits, uint8_t* code) {
  const __m256 zero = _mm256_setzero_ps();
  __m256 nan = zero;
  int64_t j = 0;
  for (; j + 8 <= n_bits; j += 8) {
    const __m256 v = _mm256_loadu_ps(values + j);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256 threshold = thresholds ? _mm256_loadu_ps(thresholds + j) : zero;
    code[j / 8] = static_cast<uint8_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, threshold, _CMP_GT_OQ)));
  }
  const bool rest = thresholds ? pack_above_from(j, values, thresholds, n_bits, code)
                               : pack_above_from(j, values, nullptr, n_bits, code);
  return _mm256_movemask_ps(nan) != 0 || rest;
}

void pack_bytes(const uint8_t* bytes, int64_t n_bits, uint8_t* code) {
  int64_t j = 0;
  for (; j + 32 <= n_bits; j += 32) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + j));
    const auto bits = ~static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_setzero_si256())));
    std::memcpy(code + j / 8, &bits, 4);
  }
  pack_bytes_from(j, bytes, n_bits, code);
}

void unpack_bits(const uint8_t* code, int64_t n_bits, uint8_t zero, uint8_t one, uint8_t* values) {
  // Byte i of a vector takes byte i / 8 of four, then bit i % 8 of it.
  const __m256i bytes = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  const __m256i zeros = _mm256_set1_epi8(static_cast<char>(zero)), ones = _mm256_set1_epi8(static_cast<char>(one));
  int64_t j = 0;
  for (; j + 32 <= n_bits; j += 32) {
    int four;
    std::memcpy(&four, code + j / 8, 4);
    const __m256i own = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(four), bytes), bit);
    const __m256i set = _mm256_cmpeq_epi8(own, bit);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + j), _mm256_blendv_epi8(zeros, ones, set));
  }
  unpack_bits_from(j, code, n_bits, zero, one, values);
}

void signed_sums(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const float* weights, int64_t n_rows,
                 float* sums) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), sign = _mm256_set1_epi32(INT32_MIN);
  int64_t byte = 0;
  for (; byte + 4 <= n_bytes; byte += 4) {
    __m256 mine[4] = {};
    for (int64_t i = 0; i < n_rows; ++i) {
      const uint8_t* code = codebook + (rows ? rows[i] : i) * n_bytes + byte;
      const __m256 weight = _mm256_set1_ps(weights[i]);
      for (int b = 0; b < 4; ++b) {
        const __m256i unset = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(code[b]), bit), _mm256_setzero_si256());
        mine[b] = _mm256_add_ps(mine[b], _mm256_xor_ps(weight, _mm256_castsi256_ps(_mm256_and_si256(unset, sign))));
      }
    }
    for (int b = 0; b < 4; ++b) _mm256_storeu_ps(sums + 8 * (byte + b), mine[b]);
  }
  signed_sums_from<float>(byte, codebook, n_bytes, rows, weights, n_rows, sums);
}

void add_signed(const float* signs, int64_t n_codes, int64_t n_bits, const float* weights, int64_t stride, int64_t n_rows,
                float* sums) {
  add_signed_of<8, 6, 2>(signs, n_codes, n_bits, weights, stride, n_rows, sums);
}

}  // namespace

extern const BitKernels kAvx2Bits;
const BitKernels kAvx2Bits = {pack_above, kPositiveBytes, pack_bytes, unpack_bits, signed_sums, add_signed, signs_of};

}  // namespace dshc::cpu
