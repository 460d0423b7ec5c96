#include "../core/center_codes_from_logits.h"

#include <cstring>

#include "call/call.h"
#include "call/threads.h"
#include "logits/first_fault.h"
#include "logits/float_rows.h"

namespace dshc::cpu {
namespace {

template <class Real>
Real log_sum_exp(const FloatKernels& kernels, const Real* values, int64_t n) {
  const Real largest = max_value(kernels, values, n);
  if (std::isinf(largest)) {  // the shift below would give inf - inf
    return any_nan(kernels, values, n) ? std::numeric_limits<Real>::quiet_NaN() : largest;
  }
  return largest + std::log(sum_exp(kernels, values, n, largest));
}

template <class Real>
int64_t best_class(const FloatKernels& kernels, const Real* logits, const int64_t* offsets, int64_t n_classes) {
  int64_t best = -1;
  Real best_score{};
  for (int64_t c = 0; c < n_classes; ++c) {
    const Real score = log_sum_exp(kernels, logits + offsets[c], offsets[c + 1] - offsets[c]);
    if (best < 0 ? score == score : score > best_score) {
      best = c;
      best_score = score;
    }
  }
  return best < 0 ? 0 : best;
}

}  // namespace

Status center_codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses,
                                const int64_t* class_offsets, int64_t n_classes, const uint8_t* centers,
                                int64_t n_bytes, uint8_t* codes, bool check, int n_threads) {
  const Call call;
  const FloatKernels& kernels = *level().floats;
  FirstFault first_nan;
  const int64_t n_tasks = task_count(n, static_cast<double>(n_subclasses), n_threads);
  const auto one_row = [&](const auto* values, int64_t row) {
    if (check && any_nan(kernels, values, n_subclasses)) first_nan.note(row);
    const int64_t best = best_class(kernels, values, class_offsets, n_classes);
    std::memcpy(codes + row * n_bytes, centers + best * n_bytes, static_cast<size_t>(n_bytes));
  };
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    std::vector<float> buffer;
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      if (dtype == DType::float64) {
        one_row(static_cast<const double*>(logits) + row * n_subclasses, row);
      } else {
        one_row(float_row(kernels, logits, dtype, row, n_subclasses, buffer), row);
      }
    }
  });
  if (first_nan.found()) return first_nan.as(Fault::nan_value);
  return {};
}

}  // namespace dshc::cpu
