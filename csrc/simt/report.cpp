// How a mistake is told: what, where in which thread, in which kernel. It ends the process, because what a kernel would do
// after it means nothing.
#include <cstdarg>
#include <cstdio>

#include <unistd.h>

#include "block.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace dshc::simt {
namespace {

constexpr int kExitCode = 86;  // told apart from the sanitizers' own

[[noreturn]] void end() {
  char name[1024] = "";
  if (current_kernel() == nullptr) _exit(kExitCode);
#if defined(__SANITIZE_ADDRESS__)
  // Kernels have internal linkage, so only the debug information knows their names.
  auto* inside = const_cast<char*>(static_cast<const char*>(current_kernel())) + 1;
  __sanitizer_symbolize_pc(inside, "%f", name, sizeof name);
#endif
  std::fprintf(stderr, "  in kernel %s\n", name[0] != '\0' ? name : "(unknown)");
  std::fflush(stderr);
  _exit(kExitCode);
}

}  // namespace

void fail(const char* format, ...) {
  std::fprintf(stderr, "dshc_simt: ");
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  end();
}

void fail_at(const Thread& thread, Where where, const char* format, ...) {
  std::fprintf(stderr, "dshc_simt: block (%u, %u, %u), thread (%u, %u, %u), %s:%d: ", thread.block->index.x,
               thread.block->index.y, thread.block->index.z, thread.index.x, thread.index.y, thread.index.z, where.file,
               where.line);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  end();
}

}  // namespace dshc::simt
