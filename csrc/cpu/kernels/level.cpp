#include "level.h"

#include <atomic>
#include <cstring>

namespace dshc::cpu {

extern const SimdKernels kGenericKernels;
#if defined(DSHC_HAVE_X86_LEVELS)
extern const SimdKernels kAvx2Kernels;
extern const SimdKernels kAvx512Kernels;
#endif
#if defined(DSHC_HAVE_NEON_LEVEL)
extern const SimdKernels kNeonKernels;
#endif

namespace {

struct Levels {
  const SimdKernels* kernels[4] = {};
  const char* names[5] = {};
  int count = 0;

  void add(const SimdKernels& level) {
    kernels[count] = &level;
    names[count++] = level.name;
  }

  Levels() {
#if defined(DSHC_HAVE_X86_LEVELS)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("popcnt");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vpopcntdq")) {
      add(kAvx512Kernels);
    }
    if (avx2) add(kAvx2Kernels);
#endif
#if defined(DSHC_HAVE_NEON_LEVEL)
    add(kNeonKernels);  // part of every aarch64
#endif
    add(kGenericKernels);
  }
};

const Levels& levels() {
  static const Levels found;
  return found;
}

std::atomic<const SimdKernels*> g_chosen{nullptr};

}  // namespace

const SimdKernels& chosen_simd() {
  const SimdKernels* chosen = g_chosen.load(std::memory_order_relaxed);
  return chosen ? *chosen : *levels().kernels[0];
}

bool set_simd_level(const char* name) {
  if (!name) {
    g_chosen.store(nullptr, std::memory_order_relaxed);
    return true;
  }
  for (int i = 0; i < levels().count; ++i) {
    if (std::strcmp(levels().names[i], name) == 0) {
      g_chosen.store(levels().kernels[i], std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

const char* const* simd_levels() { return levels().names; }

}  // namespace dshc::cpu
