// What a kernel file needs of CUDA, and nothing else: the language, a launch, dynamic shared memory, a fill.
// Compiled by nvcc it is the CUDA runtime; compiled as plain C++ with DSHC_SIMT (tests), csrc/simt/simt.h supplies the
// same words and runs the grid on the CPU. Kernels declare no static __shared__ arrays: dynamic shared memory has exactly
// the launch's size, so that the interpreter can guard every byte of it.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef DSHC_SIMT
#include <cstring>

// CUDA's own words at global scope; dshc::cuda::launch and dshc::cuda::dynamic_shared as below.
#include "../simt/simt.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

namespace dshc::cuda {

using Stream = void*;  // a cudaStream_t

constexpr int kWarp = 32;
constexpr unsigned kFullMask = 0xFFFFFFFFu;

#ifdef DSHC_SIMT

inline int multiprocessors() { return simt::multiprocessors(); }
inline int compute_capability() { return 90; }
inline int shared_bytes_a_multiprocessor() { return 228 * 1024; }
inline int shared_bytes_a_block() { return 227 * 1024; }

inline int fill_zero(void* to, int64_t bytes, Stream) {
  std::memset(to, 0, static_cast<size_t>(bytes));
  return 0;
}

#else

// The block's dynamic shared memory, aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dshc_dynamic_shared[];
  return reinterpret_cast<T*>(dshc_dynamic_shared);
}

// Of the current device; `otherwise` where it cannot be asked. Work is cut by them; no answer depends on them.
inline int device_attribute(cudaDeviceAttr attribute, int otherwise) {
  int device = 0, value = otherwise;
  if (cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess) return value;
  cudaGetLastError();  // or the next launch would be blamed for it
  return otherwise;
}

inline int multiprocessors() { return device_attribute(cudaDevAttrMultiProcessorCount, 1); }
inline int shared_bytes_a_multiprocessor() {
  return device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, 64 * 1024);
}
// On request (launch).
inline int shared_bytes_a_block() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, 48 * 1024); }

// 10 * major + minor.
inline int compute_capability() {
  return 10 * device_attribute(cudaDevAttrComputeCapabilityMajor, 0) +
         device_attribute(cudaDevAttrComputeCapabilityMinor, 0);
}

// A GPU grants so much shared memory to every block, more on request only.
constexpr size_t kGrantedShared = 48 * 1024;

// Launches and returns the launch's cudaError_t (0: success). Never synchronises.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
           Arguments... arguments) {
  if (shared_bytes > kGrantedShared) {
    // All that there is, and not what this launch needs: threads that launch one kernel with different sizes would undo each
    // other's request.
    cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes_a_block());
    // As many blocks as the kernel was planned for fit only where the first-level cache leaves them the room.
    if (status == cudaSuccess) {
      status = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
    }
    if (status != cudaSuccess) {
      cudaGetLastError();
      return static_cast<int>(status);
    }
  }
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(static_cast<Parameters>(arguments)...);
  return static_cast<int>(cudaGetLastError());
}

inline int fill_zero(void* to, int64_t bytes, Stream stream) {
  const cudaError_t status = cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), static_cast<cudaStream_t>(stream));
  if (status != cudaSuccess) cudaGetLastError();
  return static_cast<int>(status);
}

#endif

// Whether the device has matrix products of single bits and of bytes, and code that was built for them.
inline bool has_bit_products() {
  const int capability = compute_capability();
#ifdef __CUDA_ARCH_LIST__
  for (const int built : {__CUDA_ARCH_LIST__}) {
    if (built >= 800 && built <= 10 * capability) return true;
  }
  return false;
#else
  return capability >= 80;
#endif
}

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t kMostBlocks = 0x7FFFFFFF;  // of a grid's first dimension, on every architecture

// More blocks than a grid can have become a number that every launch refuses: cut to 32 bits, they would be a smaller grid,
// and part of the answer would stay unwritten.
inline dim3 grid_of(int64_t blocks) {
  return dim3(blocks > kMostBlocks ? 0xFFFFFFFFu : static_cast<unsigned>(blocks));
}

}  // namespace dshc::cuda
