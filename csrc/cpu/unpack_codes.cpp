#include "../core/unpack_codes.h"

#include "call/call.h"
#include "call/fresh_memory.h"
#include "call/threads.h"
#include "kernels/level.h"

namespace dshc::cpu {

void unpack_codes(const uint8_t* codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, uint8_t* values,
                  int n_threads) {
  const Call call;
  expect_writes(values, n * n_bits);
  const int64_t n_tasks = task_count(n, static_cast<double>(n_bits) * 0.05 + 2, n_threads);
  const uint8_t zero = is_signed ? 0xFF : 0;  // -1
  const BitKernels& kernels = *level().bits;
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      kernels.unpack_bits(codes + row * n_bytes, n_bits, zero, 1, values + row * n_bits);
    }
  });
}

}  // namespace dshc::cpu
