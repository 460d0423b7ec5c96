// What a relevant item adds to a sum, hits / rank or a discount, to 1e-13 instead of the last bit: by a lookup of float32 and
// steps that double its places, a fraction of the instructions of a division or a logarithm in float64.
#pragma once
#include "../common/discounts.h"
#include "launch.h"

namespace dshc::cuda {

// By the bits of 2^52 + x: a conversion takes as long as a population count, and as much from the same unit.
__device__ __forceinline__ double as_double(uint32_t x) {
  return __longlong_as_double(0x4330000000000000 | static_cast<long long>(x)) - 4503599627370496.0;
}

// 1 / x to one place of a float, x from 1 on: a single instruction, where a division also looks out for tiny numbers.
__device__ __forceinline__ float reciprocal(float x) {
#ifdef DSHC_SIMT
  return 1.0f / x;
#else
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

// 1 / x to 2e-14, from a guess.
__device__ __forceinline__ double refined_reciprocal(double x, float guess) {
  const double near = guess;
  return near * (2.0 - x * near);
}

// hits / rank to 2e-14: the reciprocal in float, made twice as precise by one step of Newton's method.
__device__ __forceinline__ double precision_at(uint32_t hits, uint32_t rank) {
  return as_double(hits) * refined_reciprocal(as_double(rank), reciprocal(static_cast<float>(rank)));
}

// discount(rank) of common/discounts.h to 5e-14, in half the instructions: ranks fit a float. With rank + 1 = 2^e m, m about 1,
// log2 m = 2 / ln 2 * artanh(s), s = (m - 1) / (m + 1), of which the ninth term is below 2e-14.
__device__ __forceinline__ double quick_discount(uint32_t rank) {
  constexpr uint32_t kRootOfHalf = 0x3F3504F3;  // the float; m is from there to sqrt(2)
  const uint32_t bits = __float_as_uint(static_cast<float>(rank + 1)), power = (bits - kRootOfHalf) >> 23;
  const float m = __uint_as_float(bits - (power << 23));
  const double wide = m, s = (wide - 1.0) * refined_reciprocal(wide + 1.0, reciprocal(m + 1.0f)), z = s * s;
  double sum = 1.0 / 15;
  sum = 1.0 / 13 + z * sum;
  sum = 1.0 / 11 + z * sum;
  sum = 1.0 / 9 + z * sum;
  sum = 1.0 / 7 + z * sum;
  sum = 1.0 / 5 + z * sum;
  sum = 1.0 / 3 + z * sum;
  sum = 1.0 + z * sum;
  const double log2 = as_double(power) + 2.0 / kLn2 * s * sum;
  return refined_reciprocal(log2, reciprocal(static_cast<float>(log2)));
}

}  // namespace dshc::cuda
