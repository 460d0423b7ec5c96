// A fiber: a stack and a place to go on from. The interpreter gives one to each CUDA thread that has begun and waits.
#pragma once
#include <cstddef>

namespace dshc::simt {

class Fiber {
 public:
  // The calling thread of the process: has a stack already.
  Fiber() = default;
  // A stack of its own; the first switch to it enters `entry`, which must never return.
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Goes on in `next`; returns when something switches back to this fiber, which must be the running one.
  void switch_to(Fiber& next);
  // Must be the first thing `entry` does.
  static void entered(Fiber& previous);

 private:
  void* context_ = nullptr;         // of a fiber that is not running: its stack pointer (portable form: a ucontext_t)
  void* mapping_ = nullptr;         // guard page and stack
  const void* bottom_ = nullptr;    // what AddressSanitizer must know of the stack
  size_t size_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace dshc::simt
