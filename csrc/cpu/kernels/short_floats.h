// float16 and bfloat16 to float and back, vectors at a time. Included as floats.h is, after it.
#pragma once
#include "floats.h"

namespace dshc::cpu {
namespace {

typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

inline Words as_words(Floats v) {
  Words bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}

inline Floats as_floats(Words bits) {
  Floats v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

// out[i] = convert(values[i]), a vector at a time; the last one is filled up with zeros.
template <class To, class From, class ToVector, class FromVector>
inline void convert_all(const From* values, int64_t n, To* out, ToVector (*convert)(FromVector)) {
  FromVector in;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::memcpy(&in, values + i, sizeof in);
    const ToVector converted = convert(in);
    std::memcpy(out + i, &converted, sizeof converted);
  }
  if (i == n) return;
  From rest[kLanes] = {};
  for (int64_t j = i; j < n; ++j) rest[j - i] = values[j];
  std::memcpy(&in, rest, sizeof in);
  const ToVector converted = convert(in);
  for (int64_t j = i; j < n; ++j) out[j] = converted[j - i];
}

inline Floats bfloat16_to_float(Halves halves) { return as_floats(__builtin_convertvector(halves, Words) << 16); }

inline Halves float_to_bfloat16(Floats values) {
  const Words bits = as_words(values);
  const Words nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  const Words rounded = values != values ? bits >> 16 | 0x40 : nearest;
  return __builtin_convertvector(rounded, Halves);
}

#ifdef __AVX512F__
// The instructions neither flush what is subnormal nor read the rounding mode.
inline Floats float16_to_float(Halves halves) {
  __m256i in;
  std::memcpy(&in, &halves, sizeof in);
  return reinterpret_cast<Floats>(_mm512_cvtph_ps(in));
}

inline Halves float_to_float16(Floats values) {
  const __m256i out = _mm512_cvtps_ph(reinterpret_cast<__m512>(values), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  Halves halves;
  std::memcpy(&halves, &out, sizeof halves);
  return halves;
}
#elif defined(__F16C__)
inline Floats float16_to_float(Halves halves) {
  __m128i in;
  std::memcpy(&in, &halves, sizeof in);
  return reinterpret_cast<Floats>(_mm256_cvtph_ps(in));
}

inline Halves float_to_float16(Floats values) {
  const __m128i out = _mm256_cvtps_ph(reinterpret_cast<__m256>(values), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  Halves halves;
  std::memcpy(&halves, &out, sizeof halves);
  return halves;
}
#else
// The half's fields in a float's place, with the exponent moved by 112; infinities and NaNs get the full one. A subnormal
// half is a whole number of 2^-24: no subnormal float comes up on the way, which a caller's floating-point mode may flush.
inline Floats float16_to_float(Halves halves) {
  const Words half = __builtin_convertvector(halves, Words);
  const Words magnitude = (half & 0x7FFF) << 13, exponent = half & 0x7C00;
  const Words small = as_words(__builtin_convertvector((Ints)(half & 0x3FF), Floats) * 0x1p-24f);
  Words bits = exponent == 0 ? small : magnitude + (112u << 23);
  bits = exponent == 0x7C00 ? magnitude | 0x7F800000 : bits;
  return as_floats(bits | (half & 0x8000) << 16);
}

inline Halves float_to_float16(Floats values) {
  const Words bits = as_words(values), magnitude = bits & 0x7FFFFFFF;
  // The exponent moved by -112. Of a subnormal half, adding 0.5 lets the float addition round to multiples of 2^-24.
  const Words normal = (magnitude + 0xC8000FFF + (magnitude >> 13 & 1)) >> 13;
  const Words small = as_words(as_floats(magnitude) + 0.5f) - 0x3F000000;
  Words half = magnitude < 0x38800000 ? small : normal;
  half = magnitude >= 0x477FF000 ? Words{} + 0x7C00 : half;  // rounds past the largest half
  half = magnitude > 0x7F800000 ? Words{} + 0x7E00 : half;   // NaN
  return __builtin_convertvector(half | (bits >> 16 & 0x8000), Halves);
}
#endif

void from_bfloat16(const uint16_t* values, int64_t n, float* out) { convert_all(values, n, out, bfloat16_to_float); }
void from_float16(const uint16_t* values, int64_t n, float* out) { convert_all(values, n, out, float16_to_float); }
void to_bfloat16(const float* values, int64_t n, uint16_t* out) { convert_all(values, n, out, float_to_bfloat16); }
void to_float16(const float* values, int64_t n, uint16_t* out) { convert_all(values, n, out, float_to_float16); }

}  // namespace
}  // namespace dshc::cpu
