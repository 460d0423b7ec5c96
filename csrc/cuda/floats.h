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
