#include "../core/unpack_codes.h"

#include "call/call.h"
#include "call/threads.h"

namespace dshc::cpu {

void unpack_codes(const uint8_t* codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, uint8_t* values,
                  int n_threads) {
  const Call call;
  const int64_t n_tasks = task_count(n, static_cast<double>(n_bits) * 0.3, n_threads);
  const int scale = is_signed ? 2 : 1, shift = is_signed ? -1 : 0;
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      const uint8_t* code = codes + row * n_bytes;
      uint8_t* out = values + row * n_bits;
      for (int64_t j = 0; j < n_bits; ++j) {
        out[j] = static_cast<uint8_t>((code[j / 8] >> (j % 8) & 1) * scale + shift);
      }
    }
  });
}

}  // namespace dshc::cpu
