// dshc_simt: runs the CUDA kernels on the CPU for tests/helpers/simt.py. Reads requests (request.h) from standard input until it
// ends, answers on standard output. A mistake in a kernel ends the process, with the reason on standard error.
#include <csignal>
#include <cstring>

#include <unistd.h>

#include "request.h"
#include "scheduler.h"

namespace {

constexpr unsigned kSecondsForOne = 300;

void too_long(int) {
  const char text[] = "dshc_simt: one request took longer than 300 s: an endless loop?\n";
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(87);
  _exit(87);
}

dshc::simt::Op find(const std::string& name) {
  for (const auto* ops : {&dshc::simt::kernel_ops(), &dshc::simt::fault_ops(), &dshc::simt::probe_ops()}) {
    if (const auto found = ops->find(name); found != ops->end()) return found->second;
  }
  dshc::simt::fail("no op '%s'", name.c_str());
}

}  // namespace

int main() {
  std::signal(SIGALRM, &too_long);
  dshc::simt::Request request;
  while (request.read()) {
    alarm(kSecondsForOne);
    request.answer(find(request.op())(request));
    alarm(0);
  }
}
