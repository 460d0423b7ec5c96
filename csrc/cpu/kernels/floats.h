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

#if defined(__AVX2__) && !defined(__AVX512F__)
inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

// The last vector of a run, filled up with `fill` where it is partial.
inline Floats load_tail(const float* from, int64_t n, float fill) {
  if (n >= kLanes) return load(from);
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>((1u << n) - 1), from));
#elif defined(__AVX2__)
  const __m256i mine = first_lanes(n);
  return reinterpret_cast<Floats>(
      _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(from, mine), _mm256_castsi256_ps(mine)));
#endif
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < n ? from[i] : fill;
  return load(lanes);
}

// The first n of them.
inline void store_tail(float* to, Floats v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512>(v));
#elif defined(__AVX2__)
  _mm256_maskstore_ps(to, first_lanes(n), reinterpret_cast<__m256>(v));
#else
  for (int64_t i = 0; i < n; ++i) to[i] = v[i];
#endif
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

// One value of all lanes, half by half: a third of the steps that would wait for each other one by one.
template <class Vector, class Value, class Join>
inline Value join_lanes(Vector v, Value, Join join) {
  constexpr int kN = sizeof(Vector) / sizeof(Value);
  Value lanes[kN];
  std::memcpy(lanes, &v, sizeof v);
#pragma GCC unroll 4
  for (int half = kN / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) lanes[i] = join(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

template <class T>
inline T larger(T x, T y) {
  return y > x ? y : x;
}

inline float largest_lane(Floats v) { return join_lanes(v, 0.0f, larger<float>); }

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

// ---- doubles ----

constexpr int kWideLanes = kLanes / 2;
typedef double Doubles __attribute__((vector_size(8 * kWideLanes)));
typedef int64_t Longs __attribute__((vector_size(8 * kWideLanes)));

inline Doubles load(const double* from) {
  Doubles v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(double* to, Doubles v) { std::memcpy(to, &v, sizeof v); }

inline Doubles splat(double value) { return value - Doubles{}; }

inline Doubles load_tail(const double* from, int64_t n, double fill) {
  if (n >= kWideLanes) return load(from);
#ifdef __AVX512F__
  return reinterpret_cast<Doubles>(_mm512_mask_loadu_pd(_mm512_set1_pd(fill), static_cast<__mmask8>((1u << n) - 1), from));
#endif
  double lanes[kWideLanes];
  for (int i = 0; i < kWideLanes; ++i) lanes[i] = i < n ? from[i] : fill;
  return load(lanes);
}

inline void store_tail(double* to, Doubles v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = v[i];
}

// As of floats: ln 2 in two parts, the first of which times a whole number is exact, and the series of e^r up to r^13 / 13!,
// whose rest is below 5e-18 for |r| <= ln 2 / 2. Below -708.3 the result is 0.
inline Doubles exp_nonpositive(Doubles x) {
  const Doubles kLowest = splat(-708.3), kRound = splat(6755399441055744.0);  // 1.5 * 2^52
  const Longs underflow = x < kLowest;
  x = underflow ? kLowest : x;
  const Doubles shifted = x * 1.4426950408889634 + kRound;
  const Doubles n = shifted - kRound;
  Doubles r = x - n * 6.93147180369123816490e-01;
  r = r - n * 1.90821492927058770002e-10;
  // Even and odd powers apart: half as long a chain of steps that wait for each other.
  const Doubles r2 = r * r;
  Doubles even = splat(1.0 / 479001600.0), odd = splat(1.0 / 6227020800.0);
  even = even * r2 + 1.0 / 3628800.0;
  odd = odd * r2 + 1.0 / 39916800.0;
  even = even * r2 + 1.0 / 40320.0;
  odd = odd * r2 + 1.0 / 362880.0;
  even = even * r2 + 1.0 / 720.0;
  odd = odd * r2 + 1.0 / 5040.0;
  even = even * r2 + 1.0 / 24.0;
  odd = odd * r2 + 1.0 / 120.0;
  even = even * r2 + 0.5;
  odd = odd * r2 + 1.0 / 6.0;
  const Doubles p = (odd * r + even) * r2 + r + 1.0;
  Longs bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + (1023 - 0x4338000000000000)) << 52;  // the bits of kRound
  Doubles scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return underflow ? Doubles{} : p * scale;
}

// ---- either ----

template <class T> struct VectorOf;
template <> struct VectorOf<float> { using type = Floats; };
template <> struct VectorOf<double> { using type = Doubles; };
template <class T> constexpr int kLanesOf = sizeof(typename VectorOf<T>::type) / sizeof(T);
template <class T> constexpr T kLowestOf = static_cast<T>(-__builtin_inf());

// NaN is passed over: of its comparisons all are false, and splat(-inf) is -inf - 0.
template <class T>
T max_value(const T* values, int64_t n) {
  using V = typename VectorOf<T>::type;
  constexpr int kN = kLanesOf<T>;
  V a = splat(kLowestOf<T>), b = a;
  int64_t i = 0;
  for (; i + 2 * kN <= n; i += 2 * kN) {
    const V u = load(values + i), v = load(values + i + kN);
    a = u > a ? u : a;
    b = v > b ? v : b;
  }
  for (; i < n; i += kN) {
    const V u = load_tail(values + i, n - i, kLowestOf<T>);
    a = u > a ? u : a;
  }
  a = b > a ? b : a;
  return join_lanes(a, T{}, larger<T>);
}

template <bool kKept, class T>
inline T exp_sum(const T* values, int64_t n, T shift, T* out) {
  using V = typename VectorOf<T>::type;
  constexpr int kN = kLanesOf<T>;
  V a = {}, b = {};
  int64_t i = 0;
  for (; i + 2 * kN <= n; i += 2 * kN) {
    const V u = exp_nonpositive(load(values + i) - shift), v = exp_nonpositive(load(values + i + kN) - shift);
    a += u;
    b += v;
    if (!kKept) continue;
    store(out + i, u);
    store(out + i + kN, v);
  }
  for (; i < n; i += kN) {
    const V u = exp_nonpositive(load_tail(values + i, n - i, kLowestOf<T>) - shift);
    a += u;
    if (!kKept) continue;
    n - i >= kN ? store(out + i, u) : store_tail(out + i, u, n - i);
  }
  a += b;
  return join_lanes(a, T{}, [](T x, T y) { return x + y; });
}

template <class T>
T sum_exp(const T* values, int64_t n, T shift) {
  return exp_sum<false, T>(values, n, shift, nullptr);
}

template <class T>
T keep_exp(const T* values, int64_t n, T shift, T* out) {
  return exp_sum<true, T>(values, n, shift, out);
}

template <class T>
void multiply(const T* values, int64_t n, T factor, T* out) {
  constexpr int kN = kLanesOf<T>;
  int64_t i = 0;
  for (; i + kN <= n; i += kN) store(out + i, load(values + i) * factor);
  if (i < n) store_tail(out + i, load_tail(values + i, n - i, T{}) * factor, n - i);
}

template <class T>
void scaled_exp(const T* values, int64_t n, T shift, T scale, T* out) {
  using V = typename VectorOf<T>::type;
  constexpr int kN = kLanesOf<T>;
  int64_t i = 0;
  for (; i + kN <= n; i += kN) store(out + i, exp_nonpositive(load(values + i) - shift) * scale);
  if (i < n) {
    const V last = exp_nonpositive(load_tail(values + i, n - i, kLowestOf<T>) - shift) * scale;
    store_tail(out + i, last, n - i);
  }
}

}  // namespace
}  // namespace dshc::cpu
