// Plain loops between bits of a code and values beside each other, which the vector levels have better ways for; like floats.h
// it keeps to an anonymous namespace and off inline functions of the standard library.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "level.h"

namespace dshc::cpu {
namespace {

inline float at(const float* thresholds, int64_t j) { return thresholds[j]; }
inline float at(std::nullptr_t, int64_t) { return 0.0f; }

// Up to eight bits.
template <class Thresholds>
inline uint8_t byte_above(int64_t j, int64_t n, const float* values, Thresholds thresholds, bool* nan) {
  uint32_t byte = 0;
  for (int64_t bit = 0; bit < n; ++bit) {
    const float value = values[j + bit];
    *nan |= value != value;
    byte |= static_cast<uint32_t>(value > at(thresholds, j + bit)) << bit;
  }
  return static_cast<uint8_t>(byte);
}

// The bits from `j` on; true if one of their values is a NaN.
template <class Thresholds>
inline bool pack_above_from(int64_t j, const float* values, Thresholds thresholds, int64_t n_bits, uint8_t* code) {
  bool nan = false;
  for (; j + 8 <= n_bits; j += 8) code[j / 8] = byte_above(j, 8, values, thresholds, &nan);
  if (j < n_bits) code[j / 8] = byte_above(j, n_bits - j, values, thresholds, &nan);
  return nan;
}

// Eight bits at a time: each in a byte of its own by one product, 0 or 1, then as 0 or zero ^ one.
inline void unpack_bits_from(int64_t j, const uint8_t* code, int64_t n_bits, uint8_t zero, uint8_t one, uint8_t* values) {
  constexpr uint64_t kEach = 0x0101010101010101ull;
  const uint64_t zeros = zero * kEach, flip = static_cast<uint64_t>(zero ^ one);
  for (; j < n_bits; j += 8) {
    const uint64_t spread = code[j / 8] * kEach & 0x8040201008040201ull;
    const uint64_t bits = (spread + 0x7F7F7F7F7F7F7F7Full) >> 7 & kEach;
    const uint64_t bytes = zeros ^ bits * flip;
    std::memcpy(values + j, &bytes, static_cast<size_t>(n_bits - j < 8 ? n_bits - j : 8));
  }
}

// Codes byte by byte from `byte` on: the signs of eight bits are a row of a table.
struct Signs {
  float of[256][8];
};

constexpr Signs make_signs() {
  Signs signs{};
  for (int byte = 0; byte < 256; ++byte) {
    for (int bit = 0; bit < 8; ++bit) signs.of[byte][bit] = byte >> bit & 1 ? 1.0f : -1.0f;
  }
  return signs;
}

constexpr Signs kSigns = make_signs();

template <class Real>
inline void signed_sums_from(int64_t byte, const uint8_t* codebook, int64_t n_bytes, const int64_t* rows,
                             const Real* weights, int64_t n_rows, Real* sums) {
  for (; byte < n_bytes; ++byte) {
    Real mine[8] = {};
    for (int64_t i = 0; i < n_rows; ++i) {
      const float* signs = kSigns.of[codebook[(rows ? rows[i] : i) * n_bytes + byte]];
      for (int bit = 0; bit < 8; ++bit) mine[bit] += weights[i] * static_cast<Real>(signs[bit]);
    }
    for (int bit = 0; bit < 8; ++bit) sums[8 * byte + bit] = mine[bit];
  }
}

[[maybe_unused]] bool pack_above_plain(const float* values, const float* thresholds, int64_t n_bits, uint8_t* code) {
  return thresholds ? pack_above_from(0, values, thresholds, n_bits, code) : pack_above_from(0, values, nullptr, n_bits, code);
}

[[maybe_unused]] void unpack_bits_plain(const uint8_t* code, int64_t n_bits, uint8_t zero, uint8_t one, uint8_t* values) {
  unpack_bits_from(0, code, n_bits, zero, one, values);
}

[[maybe_unused]] void signed_sums_plain(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const float* weights,
                                        int64_t n_rows, float* sums) {
  signed_sums_from<float>(0, codebook, n_bytes, rows, weights, n_rows, sums);
}

}  // namespace
}  // namespace dshc::cpu
