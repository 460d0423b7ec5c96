// Large results are written once, to memory that the system has not given yet: page by page it costs as much as the writing.
#pragma once
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace dshc::cpu {

// Asks for large pages, as numpy does for its own arrays. A wish: where the system grants none nothing changes.
inline void expect_writes(void* to, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr int64_t kWorth = 4 << 20;
  constexpr uintptr_t kPage = 4096;
  if (bytes < kWorth) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(to) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(to) + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)to, (void)bytes;
#endif
}

}  // namespace dshc::cpu
