// Copies of 16 bytes from global to shared memory that pass by the registers and are waited for later (PTX ISA, cp.async, from
// compute capability 8.0 on). What a thread has copied it sees after wait_for_copies(); other threads after a barrier too.
// On the CPU (tests) a copy is complete when it is begun.
#pragma once
#include "launch.h"

namespace dshc::cuda {

#ifdef DSHC_SIMT

// The first `there` of 16 bytes, the others become 0. Both addresses are multiples of 16.
inline void copy_async(void* shared, const void* global, int there) {
  auto* to = static_cast<uint8_t*>(shared);
  const auto* from = static_cast<const uint8_t*>(global);
  for (int i = 0; i < 16; ++i) to[i] = i < there ? from[i] : 0;
}

// Ends a group of copies of this thread, which may be empty.
inline void end_copy_group() {}

// Waits until at most `kPending` of this thread's groups are on the way.
template <int kPending>
inline void wait_for_copies() {}

#else

__device__ __forceinline__ void copy_async(void* shared, const void* global, int there) {
#if __CUDA_ARCH__ >= 800
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(there) : "memory");
#else
  __trap();  // the host does not choose these kernels there
#endif
}

__device__ __forceinline__ void end_copy_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

#endif

}  // namespace dshc::cuda
