// Arrays of any dtype that the ops accept, read and written one value at a time by the definition of the format.
#pragma once
#include <algorithm>

#include "../common/dtype.h"
#include "check.h"

namespace dshc::test {

// Formats of 16 bits with a sign, an exponent and `fraction_bits` of fraction.
inline double decode_half(uint64_t bits, int fraction_bits) {
  const int exponent_bits = 15 - fraction_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1));
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0.0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + std::ldexp(1.0, fraction_bits), exponent - bias - fraction_bits);
}

inline int fraction_bits(DType dtype) { return dtype == DType::float16 ? 10 : 7; }
inline bool is_half(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }
inline bool is_float(DType dtype) { return is_half(dtype) || dtype == DType::float32 || dtype == DType::float64; }

class Typed {
 public:
  Typed(DType dtype, int64_t n) : dtype_(dtype), n_(n), bytes_(new char[static_cast<size_t>(n * size_of(dtype))]()) {}
  void* data() { return bytes_.get(); }
  const void* data() const { return bytes_.get(); }
  DType dtype() const { return dtype_; }
  int64_t size() const { return n_; }

  uint64_t bits(int64_t i) const {
    uint64_t bits = 0;  // the least significant bytes come first on every machine these tests run on
    std::memcpy(&bits, bytes_.get() + i * size_of(dtype_), static_cast<size_t>(size_of(dtype_)));
    return bits;
  }
  void set_bits(int64_t i, uint64_t bits) {
    std::memcpy(bytes_.get() + i * size_of(dtype_), &bits, static_cast<size_t>(size_of(dtype_)));
  }

  double value(int64_t i) const {
    const uint64_t raw = bits(i);
    if (is_half(dtype_)) return decode_half(raw, fraction_bits(dtype_));
    switch (dtype_) {
      case DType::float32: return as<float>(raw);
      case DType::float64: return as<double>(raw);
      case DType::int8: return as<int8_t>(raw);
      case DType::int16: return as<int16_t>(raw);
      case DType::int32: return as<int32_t>(raw);
      case DType::int64: return static_cast<double>(as<int64_t>(raw));
      default: return static_cast<double>(raw);
    }
  }

  // Floats only; 16-bit formats take the nearest value towards zero.
  void set_value(int64_t i, double value) {
    if (dtype_ == DType::float64) return set(i, value);
    if (dtype_ == DType::float32) return set(i, static_cast<float>(value));
    const uint64_t sign = std::signbit(value) ? 0x8000 : 0, infinity = dtype_ == DType::float16 ? 0x7C00 : 0x7F80;
    if (std::isnan(value)) return set_bits(i, infinity + 1);
    uint64_t low = 0, high = infinity + 1;  // patterns rise with the values they stand for
    while (high - low > 1) {
      const uint64_t middle = (low + high) / 2;
      (decode_half(middle, fraction_bits(dtype_)) <= std::fabs(value) ? low : high) = middle;
    }
    set_bits(i, sign | low);
  }

 private:
  template <class T>
  static T as(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  template <class T>
  void set(int64_t i, T value) {
    std::memcpy(bytes_.get() + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  }

  DType dtype_;
  int64_t n_;
  std::unique_ptr<char[]> bytes_;
};

constexpr DType kFloats[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16};

inline void expect_status(const char* op, Status got, Fault fault, int64_t row) {
  expect_same(op, -1, static_cast<int32_t>(got.fault), static_cast<int32_t>(fault));
  expect_same(op, -2, got.row, row);
  count(op, 2);
}

}  // namespace dshc::test
