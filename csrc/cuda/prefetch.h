// A line of memory called into the second-level cache: where registers hold too little to keep memory busy.
#pragma once
#include "launch.h"

namespace dshc::cuda {

__device__ __forceinline__ void call_into_cache(const void* address) {
#ifdef DSHC_SIMT
  static_cast<void>(*static_cast<const volatile char*>(address));  // for the sanitizer to see
#else
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

}  // namespace dshc::cuda
