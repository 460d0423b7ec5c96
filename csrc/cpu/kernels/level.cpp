#include "level.h"

#include <atomic>
#include <cstring>

#if defined(DSHC_HAVE_X86_LEVELS)
#include <cpuid.h>
#endif

namespace dshc::cpu {

extern const Level kGenericLevel;
#if defined(DSHC_HAVE_X86_LEVELS)
extern const Level kAvx2Level, kAvx512Level, kAvx512BitMatrixLevel;
#endif
#if defined(DSHC_HAVE_NEON_LEVEL)
extern const Level kNeonLevel;
#endif

namespace {

#if defined(DSHC_HAVE_X86_LEVELS)
// Not every compiler's __builtin_cpu_supports knows the name.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

struct Levels {
  const Level* levels[4] = {};
  const char* names[5] = {};
  int count = 0;

  void add(const Level& level) {
    levels[count] = &level;
    names[count++] = level.name;
  }

  Levels() {
#if defined(DSHC_HAVE_X86_LEVELS)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("popcnt") && has_f16c();
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vpopcntdq")) {
      // One name: what more a newer processor can do shows in the rows of the table.
      const bool bit_matrices = __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512vbmi");
      add(bit_matrices ? kAvx512BitMatrixLevel : kAvx512Level);
    }
    if (avx2) add(kAvx2Level);
#endif
#if defined(DSHC_HAVE_NEON_LEVEL)
    add(kNeonLevel);  // part of every aarch64
#endif
    add(kGenericLevel);
  }
};

const Levels& levels() {
  static const Levels found;
  return found;
}

std::atomic<const Level*> g_chosen{nullptr};

}  // namespace

const Level& chosen_level() {
  const Level* chosen = g_chosen.load(std::memory_order_relaxed);
  return chosen ? *chosen : *levels().levels[0];
}

bool set_simd_level(const char* name) {
  if (!name) {
    g_chosen.store(nullptr, std::memory_order_relaxed);
    return true;
  }
  for (int i = 0; i < levels().count; ++i) {
    if (std::strcmp(levels().names[i], name) == 0) {
      g_chosen.store(levels().levels[i], std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

const char* const* simd_levels() { return levels().names; }

}  // namespace dshc::cpu
