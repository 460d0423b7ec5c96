#include "../core/multilabel_codes.h"

#include <cmath>
#include <limits>
#include <vector>

#include "call/call.h"
#include "call/threads.h"
#include "kernels/level.h"
#include "logits/first_fault.h"
#include "logits/float_rows.h"
#include "logits/pack_bits.h"

namespace dshc::cpu {
namespace {

// A float is above a threshold if it is above the largest float that is not: so no threshold is rounded to the floats'
// precision, and floats are compared as they are.
float largest_not_above(double threshold) {
  const auto nearest = static_cast<float>(threshold);
  return static_cast<double>(nearest) > threshold ? std::nextafterf(nearest, -std::numeric_limits<float>::infinity()) : nearest;
}

bool pack_doubles(const double* values, const double* thresholds, int64_t n_bits, uint8_t* code) {
  bool nan = false;
  pack_row(n_bits, code, [&](int64_t j) {
    nan |= values[j] != values[j];
    return values[j] > thresholds[j];
  });
  return nan;
}

}  // namespace

Status multilabel_codes(const void* logits, DType dtype, int64_t n, int64_t n_bits, const double* thresholds,
                        uint8_t* codes, bool check, int n_threads) {
  const Call call;
  const int64_t n_bytes = (n_bits + 7) / 8;
  FirstFault first_nan;
  std::vector<float> bounds(static_cast<size_t>(n_bits));
  for (int64_t j = 0; j < n_bits; ++j) bounds[static_cast<size_t>(j)] = largest_not_above(thresholds[j]);
  const int64_t n_tasks = task_count(n, static_cast<double>(n_bits) * 0.3, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const FloatKernels& floats = *level().floats;
    const BitKernels& bits = *level().bits;
    std::vector<float> buffer;
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      uint8_t* code = codes + row * n_bytes;
      const bool nan = dtype == DType::float64
                           ? pack_doubles(static_cast<const double*>(logits) + row * n_bits, thresholds, n_bits, code)
                           : bits.pack_above(float_row(floats, logits, dtype, row, n_bits, buffer), bounds.data(), n_bits, code);
      if (nan) first_nan.note(row);
    }
  });
  if (check && first_nan.found()) return first_nan.as(Fault::nan_value);
  return {};
}

}  // namespace dshc::cpu
