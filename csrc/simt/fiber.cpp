// The context switch is written by hand: swapcontext makes two system calls to keep the signal mask, which costs twenty
// times as much, and a block of 256 threads switches 256 times at each barrier. Other processors take the portable form.
#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#define DSHC_SIMT_UCONTEXT
#endif
#if defined(DSHC_SIMT_UCONTEXT)
#include <ucontext.h>
#endif

namespace dshc::simt {
namespace {

constexpr size_t kPage = 65536;          // a multiple of the page size of every system
constexpr size_t kStack = 256 * 1024;    // only pages that were touched cost memory

}  // namespace

#if defined(DSHC_SIMT_UCONTEXT)

static void dshc_simt_switch(void** save, void* load) {
  ucontext_t here;
  *save = &here;
  if (swapcontext(&here, static_cast<ucontext_t*>(load)) != 0) std::abort();
}

static void* first_context(char* top, void (*entry)()) {
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = top - kStack;
  context->uc_stack.ss_size = kStack;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

#elif defined(__x86_64__)

// Saves what the calling convention lets a function expect back, exchanges the stack pointer, restores.
extern "C" void dshc_simt_switch(void** save, void* load);
asm(R"(
.text
.globl dshc_simt_switch
.type dshc_simt_switch, @function
dshc_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size dshc_simt_switch, .-dshc_simt_switch
)");

// Six registers, the address `ret` takes, and a return address of 0 for `entry`, which ends a stack trace.
static void* first_context(char* top, void (*entry)()) {
  void** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slot = nullptr;
  return slot;
}

#elif defined(__aarch64__)

extern "C" void dshc_simt_switch(void** save, void* load);
asm(R"(
.text
.globl dshc_simt_switch
.type dshc_simt_switch, %function
dshc_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size dshc_simt_switch, .-dshc_simt_switch
)");

static void* first_context(char* top, void (*entry)()) {
  void** slot = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) slot[i] = nullptr;
  slot[11] = reinterpret_cast<void*>(entry);  // x30
  return slot;
}

#endif

Fiber::Fiber(void (*entry)()) {
  mapping_ = mmap(nullptr, kPage + kStack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char* stack = static_cast<char*>(mapping_) + kPage;
  if (mapping_ == MAP_FAILED || mprotect(stack, kStack, PROT_READ | PROT_WRITE) != 0) {
    std::perror("dshc_simt: no memory for the stack of a fiber");
    std::abort();
  }
  bottom_ = stack;
  size_ = kStack;
  context_ = first_context(stack + kStack, entry);
}

Fiber::~Fiber() {
  if (mapping_ != nullptr) munmap(mapping_, kPage + kStack);
}

void Fiber::switch_to(Fiber& next) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, next.bottom_, next.size_);
#endif
  dshc_simt_switch(&context_, next.context_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::entered([[maybe_unused]] Fiber& previous) {
#if defined(__SANITIZE_ADDRESS__)
  // The stack of the process itself is only known from here.
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (previous.mapping_ == nullptr) {
    previous.bottom_ = bottom;
    previous.size_ = size;
  }
#endif
}

}  // namespace dshc::simt
