#include "../core/multilabel_codes.h"

#include "call/call.h"
#include "call/threads.h"
#include "logits/first_fault.h"
#include "logits/float_rows.h"
#include "logits/pack_bits.h"

namespace dshc::cpu {

Status multilabel_codes(const void* logits, DType dtype, int64_t n, int64_t n_bits, const double* thresholds,
                        uint8_t* codes, bool check, int n_threads) {
  const Call call;
  const int64_t n_bytes = (n_bits + 7) / 8;
  FirstFault first_nan;
  const auto one_row = [&](const auto* values, int64_t row) {
    bool nan = false;
    pack_row(n_bits, codes + row * n_bytes, [&](int64_t j) {
      const double value = static_cast<double>(values[j]);
      nan |= value != value;
      return value > thresholds[j];
    });
    if (nan) first_nan.note(row);
  };
  const int64_t n_tasks = task_count(n, static_cast<double>(n_bits) * 0.3, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const FloatKernels& kernels = *level().floats;
    std::vector<float> buffer;
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      if (dtype == DType::float64) {
        one_row(static_cast<const double*>(logits) + row * n_bits, row);
      } else {
        one_row(float_row(kernels, logits, dtype, row, n_bits, buffer), row);
      }
    }
  });
  if (check && first_nan.found()) return first_nan.as(Fault::nan_value);
  return {};
}

}  // namespace dshc::cpu
