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

// float16 and bfloat16 by their bits: > 0 is a clear sign, not zero, not past the infinity's pattern.
template <uint16_t kInfinity>
struct Half {
  uint16_t bits;
};

template <class T>
inline bool positive(T value) { return value > 0; }
template <uint16_t kInfinity>
inline bool positive(Half<kInfinity> value) { return static_cast<uint16_t>(value.bits - 1) < kInfinity; }

template <class T>
inline bool is_nan(T value) { return value != value; }
template <uint16_t kInfinity>
inline bool is_nan(Half<kInfinity> value) { return (value.bits & 0x7FFF) > kInfinity; }

// Loops that a compiler makes vectors of, whatever the level has.
template <class T>
bool positive_bytes_of(const void* values, int64_t n, uint8_t* bytes) {
  const auto* typed = static_cast<const T*>(values);
  uint8_t nan = 0;
  for (int64_t i = 0; i < n; ++i) {
    bytes[i] = positive(typed[i]);
    nan = static_cast<uint8_t>(nan | static_cast<uint8_t>(is_nan(typed[i])));
  }
  return nan != 0;
}

// In the order of DType.
bool (*const kPositiveBytes[])(const void*, int64_t, uint8_t*) = {
    positive_bytes_of<float>,
    positive_bytes_of<double>,
    positive_bytes_of<Half<0x7C00>>,
    positive_bytes_of<Half<0x7F80>>,
    positive_bytes_of<int8_t>,
    positive_bytes_of<int16_t>,
    positive_bytes_of<int32_t>,
    positive_bytes_of<int64_t>,
    positive_bytes_of<uint8_t>,
    positive_bytes_of<uint16_t>,
    positive_bytes_of<uint32_t>,
    positive_bytes_of<uint64_t>,
};

// From byte `j` on, eight at a time: a byte's high bit says whether it is 0, and one product brings the eight together.
inline void pack_bytes_from(int64_t j, const uint8_t* bytes, int64_t n_bits, uint8_t* code) {
  for (; j < n_bits; j += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + j, static_cast<size_t>(n_bits - j < 8 ? n_bits - j : 8));
    const uint64_t is_one = (((word & 0x7F7F7F7F7F7F7F7Full) + 0x7F7F7F7F7F7F7F7Full) | word) >> 7 & 0x0101010101010101ull;
    code[j / 8] = static_cast<uint8_t>(is_one * 0x0102040810204080ull >> 56);
  }
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

template <int kRows> struct Rows { static constexpr int value = kRows; };

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

inline void signs_of(const uint8_t* codes, int64_t n_bytes, float* signs) {
  for (int64_t byte = 0; byte < n_bytes; ++byte) std::memcpy(signs + 8 * byte, kSigns.of[codes[byte]], 32);
}

// kVectors vectors of kWide bits of kRows rows stay in registers over all codes. A weight times 1 or -1 is exact, so that it is the
// same whether product and addition are one instruction or two.
template <int kWide, int kVectors, int kRows>
inline void add_signed_tile(const float* signs, int64_t n_codes, int64_t n_bits, const float* weights, int64_t stride,
                            float* sums) {
  typedef float Vector __attribute__((vector_size(4 * kWide)));
  Vector mine[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) std::memcpy(&mine[r][v], sums + r * n_bits + v * kWide, sizeof(Vector));
  }
  for (int64_t i = 0; i < n_codes; ++i) {
    Vector of_code[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) std::memcpy(&of_code[v], signs + i * n_bits + v * kWide, sizeof(Vector));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float weight = weights[r * stride + i];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) mine[r][v] += weight * of_code[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) std::memcpy(sums + r * n_bits + v * kWide, &mine[r][v], sizeof(Vector));
  }
}

// kWide: floats of the level's vectors; kRows and kVectors: so many that the sums fit its registers.
template <int kWide, int kRows, int kVectors>
inline void add_signed_of(const float* signs, int64_t n_codes, int64_t n_bits, const float* weights, int64_t stride,
                          int64_t n_rows, float* sums) {
  const auto over_bits = [&](auto rows, int64_t row) {
    constexpr int kHere = decltype(rows)::value;
    const float* mine = weights + row * stride;
    float* to = sums + row * n_bits;
    int64_t bit = 0;
    for (; bit + kVectors * kWide <= n_bits; bit += kVectors * kWide) {
      add_signed_tile<kWide, kVectors, kHere>(signs + bit, n_codes, n_bits, mine, stride, to + bit);
    }
    for (; bit < n_bits; bit += 8) add_signed_tile<4, 2, kHere>(signs + bit, n_codes, n_bits, mine, stride, to + bit);
  };
  int64_t row = 0;
  for (; row + kRows <= n_rows; row += kRows) over_bits(Rows<kRows>{}, row);
  for (; row + 2 <= n_rows; row += 2) over_bits(Rows<2>{}, row);
  for (; row < n_rows; ++row) over_bits(Rows<1>{}, row);
}

[[maybe_unused]] bool pack_above_plain(const float* values, const float* thresholds, int64_t n_bits, uint8_t* code) {
  return thresholds ? pack_above_from(0, values, thresholds, n_bits, code) : pack_above_from(0, values, nullptr, n_bits, code);
}

[[maybe_unused]] void pack_bytes_plain(const uint8_t* bytes, int64_t n_bits, uint8_t* code) {
  pack_bytes_from(0, bytes, n_bits, code);
}

[[maybe_unused]] void unpack_bits_plain(const uint8_t* code, int64_t n_bits, uint8_t zero, uint8_t one, uint8_t* values) {
  unpack_bits_from(0, code, n_bits, zero, one, values);
}

[[maybe_unused]] void signed_sums_plain(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const float* weights,
                                        int64_t n_rows, float* sums) {
  signed_sums_from<float>(0, codebook, n_bytes, rows, weights, n_rows, sums);
}

[[maybe_unused]] void add_signed_plain(const float* signs, int64_t n_codes, int64_t n_bits, const float* weights,
                                       int64_t stride, int64_t n_rows, float* sums) {
  add_signed_of<4, 2, 4>(signs, n_codes, n_bits, weights, stride, n_rows, sums);
}

}  // namespace
}  // namespace dshc::cpu
