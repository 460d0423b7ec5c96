// Loops over floats that every instruction set shares. Included once by each <level>/kernels.cpp, which is compiled with
// that level's flags: everything here is in an anonymous namespace and uses no inline function of the standard library,
// because the linker keeps one copy of such a function and might keep the one that only the newest processor can run.
//
// Vector code is written with the compilers' vector extension: kLanes floats at a time, set by the including file.
#pragma once
#include <cstdint>
#include <cstring>

#include "level.h"

namespace dshc::cpu {
namespace {

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

inline Floats load(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Floats v) { std::memcpy(to, &v, sizeof v); }

inline Floats splat(float value) { return value - Floats{}; }

// The last vector of a run, filled up with `fill` where it is partial.
inline Floats load_tail(const float* from, int64_t n, float fill) {
  if (n >= kLanes) return load(from);
#ifdef __AVX512F__
  return reinterpret_cast<Floats>(_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>((1u << n) - 1), from));
#endif
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < n ? from[i] : fill;
  return load(lanes);
}

// e^x to 1 ulp or so for x <= 0 (Cody-Waite reduction, degree-6 minimax polynomial of the Cephes library's expf);
// below -87.3 the result is 0, NaN stays NaN. One multiplication by 2^n, so that a NaN is not lost in integer arithmetic.
inline Floats exp_nonpositive(Floats x) {
  const Floats kLowest = splat(-87.33654f), kRound = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Ints underflow = x < kLowest;
  x = underflow ? kLowest : x;
  const Floats shifted = x * 1.44269504088896341f + kRound;
  const Floats n = shifted - kRound;
  Floats r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + (127 - 0x4B400000)) << 23;  // 0x4B400000: the bits of kRound
  Floats scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return underflow ? Floats{} : p * scale;
}

float max_value(const float* values, int64_t n) {
  const float kLow = -__builtin_inff();
  Floats a = splat(kLow), b = a;
  // splat(-inf) is -inf - 0; the comparison is false for NaN, which is therefore passed over.
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const Floats u = load(values + i), v = load(values + i + kLanes);
    a = u > a ? u : a;
    b = v > b ? v : b;
  }
  for (; i < n; i += kLanes) {
    const Floats u = load_tail(values + i, n - i, kLow);
    a = u > a ? u : a;
  }
  a = b > a ? b : a;
  float best = kLow;
  for (int lane = 0; lane < kLanes; ++lane) best = a[lane] > best ? a[lane] : best;
  return best;
}

bool any_nan(const float* values, int64_t n) {
  Ints found = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats v = load(values + i);
    found |= v != v;
  }
  int any = 0;
  for (; i < n; ++i) any |= values[i] != values[i];
  for (int lane = 0; lane < kLanes; ++lane) any |= found[lane];
  return any != 0;
}

inline float largest_lane(Floats v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
  }
  return lanes[0];
}

// The values fall into kBuckets buckets by turns. The k-th largest of the buckets' maxima is a bound that k values reach;
// where maxima are equal it is a smaller one, because all equal ones are taken away at once.
bool bound_of_top(const float* values, int64_t n, int64_t k, float* bound) {
  constexpr int kVectors = kBuckets / kLanes;
  const Floats kLow = splat(-__builtin_inff());
  Floats largest[kVectors];
  Ints nan = {};
  for (int v = 0; v < kVectors; ++v) largest[v] = kLow;
  const auto take = [&](Floats u, int v) {
    nan |= u != u;
    largest[v] = u > largest[v] ? u : largest[v];
  };
  int64_t i = 0;
  for (; i + kBuckets <= n; i += kBuckets) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) take(load(values + i + v * kLanes), v);
  }
  int v = 0;
  for (; i + kLanes <= n; i += kLanes) take(load(values + i), v++);
  if (i < n) take(load_tail(values + i, n - i, -__builtin_inff()), v);
  *bound = -__builtin_inff();
  for (int64_t rank = 0; k <= kBuckets && rank < k; ++rank) {
    Floats all = largest[0];
    for (int u = 1; u < kVectors; ++u) all = largest[u] > all ? largest[u] : all;
    *bound = largest_lane(all);
    for (int u = 0; u < kVectors; ++u) largest[u] = largest[u] == *bound ? kLow : largest[u];
  }
  int any = 0;
  for (int lane = 0; lane < kLanes; ++lane) any |= nan[lane];
  return any != 0;
}

// Where an instruction set has nothing better: vectors without a hit are passed over, the others looked at value by value.
inline int64_t select_at_least_plain(const float* values, int64_t n, float bound, uint32_t* positions) {
  int64_t found = 0, i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Ints hits = load(values + i) >= bound;
    uint64_t words[kLanes / 2], any = 0;
    std::memcpy(words, &hits, sizeof words);
    for (int w = 0; w < kLanes / 2; ++w) any |= words[w];
    if (any == 0) continue;
    for (int lane = 0; lane < kLanes; ++lane) {
      positions[found] = static_cast<uint32_t>(i + lane);
      found += values[i + lane] >= bound;
    }
  }
  for (; i < n; ++i) {
    positions[found] = static_cast<uint32_t>(i);
    found += values[i] >= bound;
  }
  return found;
}

float sum_exp(const float* values, int64_t n, float shift) {
  Floats a = {}, b = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    a += exp_nonpositive(load(values + i) - shift);
    b += exp_nonpositive(load(values + i + kLanes) - shift);
  }
  for (; i < n; i += kLanes) a += exp_nonpositive(load_tail(values + i, n - i, -__builtin_inff()) - shift);
  a += b;
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) sum += a[lane];
  return sum;
}

void scaled_exp(const float* values, int64_t n, float shift, float scale, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, exp_nonpositive(load(values + i) - shift) * scale);
  if (i < n) {
    const Floats last = exp_nonpositive(load_tail(values + i, n - i, -__builtin_inff()) - shift) * scale;
    float lanes[kLanes];
    store(lanes, last);
    for (int64_t j = 0; i + j < n; ++j) out[i + j] = lanes[j];
  }
}

void from_bfloat16(const uint16_t* values, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = static_cast<uint32_t>(values[i]) << 16;
    std::memcpy(out + i, &bits, 4);
  }
}

// The half's fields in a float's place, with the exponent moved by 112; infinities and NaNs get the full one. A subnormal
// half is a whole number of 2^-24: no subnormal float comes up on the way, which a caller's floating-point mode may flush.
void from_float16(const uint16_t* values, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t half = values[i];
    const uint32_t magnitude = (half & 0x7FFF) << 13;
    const float small = static_cast<float>(static_cast<int32_t>(half & 0x3FF)) * 0x1p-24f;
    uint32_t bits;
    std::memcpy(&bits, &small, 4);
    bits = (half & 0x7C00) == 0 ? bits : magnitude + (112u << 23);
    bits = (half & 0x7C00) == 0x7C00 ? (magnitude | 0x7F800000) : bits;
    bits |= (half & 0x8000) << 16;
    std::memcpy(out + i, &bits, 4);
  }
}

}  // namespace
}  // namespace dshc::cpu
