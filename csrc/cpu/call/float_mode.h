// A thread's floating-point mode: rounding, and whether denormal numbers count as zero (torch.set_flush_denormal). It is a
// thread's own, so the workers of a call use that of the caller: one answer is computed in one mode.
#pragma once
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dshc::cpu {

class FloatMode {
 public:
  static FloatMode of_this_thread() { return FloatMode(read()); }
  static FloatMode standard() { return FloatMode(kStandard); }  // to the nearest, denormal numbers kept
  bool operator==(FloatMode other) const { return bits_ == other.bits_; }
  void set() const { write(bits_); }

 private:
  explicit FloatMode(uint64_t bits) : bits_(bits) {}

#if defined(__x86_64__)
  static constexpr uint64_t kStandard = 0x1F80;  // all exceptions masked
  static uint64_t read() { return _mm_getcsr() & ~0x3Fu; }  // without the flags of what has happened
  static void write(uint64_t bits) { _mm_setcsr(static_cast<uint32_t>(bits)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kStandard = 0;
  static uint64_t read() {
    uint64_t bits;
    __asm__ volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
  }
  static void write(uint64_t bits) { __asm__ volatile("msr fpcr, %0" : : "r"(bits)); }
#else
  static constexpr uint64_t kStandard = 0;
  static uint64_t read() { return 0; }
  static void write(uint64_t) {}
#endif

  uint64_t bits_;
};

// This thread in another mode, until the end of the scope.
class InFloatMode {
 public:
  explicit InFloatMode(FloatMode mode) : own_(FloatMode::of_this_thread()), differs_(!(own_ == mode)) {
    if (differs_) mode.set();
  }
  ~InFloatMode() {
    if (differs_) own_.set();
  }
  InFloatMode(const InFloatMode&) = delete;
  InFloatMode& operator=(const InFloatMode&) = delete;

 private:
  FloatMode own_;
  bool differs_;
};

}  // namespace dshc::cpu
