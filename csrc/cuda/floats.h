// Values of any float type as the type arithmetic is done in: double for double, else float.
#pragma once
#include "../core/types.h"
#include "launch.h"

namespace dshc::cuda {

template <class T> struct RealOf { using type = float; };
template <> struct RealOf<double> { using type = double; };
template <class T> using Real = typename RealOf<T>::type;

__device__ __forceinline__ float to_real(float value) { return value; }
__device__ __forceinline__ double to_real(double value) { return value; }
__device__ __forceinline__ float to_real(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_real(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T> __device__ __forceinline__ T from_real(Real<T> value) { return value; }
template <> __device__ __forceinline__ __half from_real<__half>(float value) { return __float2half_rn(value); }
template <> __device__ __forceinline__ __nv_bfloat16 from_real<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

__device__ __forceinline__ float exp_of(float value) { return expf(value); }
__device__ __forceinline__ double exp_of(double value) { return exp(value); }
// For value <= 0, where a sum of such terms or a gradient is rounded anyway: three instructions instead of some ten. Off by
// 2 units in the last place and by 2^-24 |value| relative; below 2^-126 it is 0.
__device__ __forceinline__ float quick_exp(float value) {
  const float power = value * 1.44269504f;
#ifdef DSHC_SIMT
  return exp2f(power);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(power));
  return result;
#endif
}
__device__ __forceinline__ double quick_exp(double value) { return exp(value); }
// NaN is passed over.
__device__ __forceinline__ float larger_of(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger_of(double a, double b) { return fmax(a, b); }
__device__ __forceinline__ float log_of(float value) { return logf(value); }
__device__ __forceinline__ double log_of(double value) { return log(value); }

// work(static_cast<const T*>(values)) with the type behind a float dtype; returns its status.
template <class Work>
int with_floats(DType dtype, const void* values, Work work) {
  switch (dtype) {
    case DType::float32: return work(static_cast<const float*>(values));
    case DType::float64: return work(static_cast<const double*>(values));
    case DType::float16: return work(static_cast<const __half*>(values));
    case DType::bfloat16: return work(static_cast<const __nv_bfloat16*>(values));
    default: return 1;  // cudaErrorInvalidValue
  }
}

}  // namespace dshc::cuda
