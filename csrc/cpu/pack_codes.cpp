#include "../core/pack_codes.h"

#include <algorithm>

#include "../common/dtype.h"
#include "call/call.h"
#include "call/threads.h"
#include "kernels/level.h"
#include "logits/first_fault.h"

namespace dshc::cpu {
namespace {

constexpr int64_t kBlock = 4096;  // values, whose bytes stay in the first-level cache

struct Values {
  const char* start;
  DType dtype;
  int64_t n_bits;  // of a row

  const void* at(int64_t i) const { return start + i * size_of(dtype); }
};

// Of n values from `first` on, a byte each and then a bit each. A NaN is rare, and only then asked after row by row.
void pack_block(const BitKernels& kernels, const Values& values, int64_t first, int64_t n, uint8_t* code, FirstFault* nan) {
  uint8_t bytes[kBlock];
  const auto positive_bytes = kernels.positive_bytes[static_cast<int>(values.dtype)];
  if (values.dtype == DType::uint8) {
    kernels.pack_bytes(static_cast<const uint8_t*>(values.at(first)), n, code);
    return;
  }
  const bool found = positive_bytes(values.at(first), n, bytes);
  kernels.pack_bytes(bytes, n, code);
  if (!found) return;
  for (int64_t begin = first; begin < first + n;) {
    const int64_t row = begin / values.n_bits, end = std::min((row + 1) * values.n_bits, first + n);
    if (positive_bytes(values.at(begin), end - begin, bytes)) nan->note(row);
    begin = end;
  }
}

// Rows of whole bytes are one long row.
void pack_rows(const BitKernels& kernels, const Values& values, int64_t begin, int64_t end, uint8_t* codes, FirstFault* nan) {
  const int64_t n_bits = values.n_bits, n_bytes = (n_bits + 7) / 8;
  const int64_t together = n_bits % 8 == 0 ? end - begin : 1;
  for (int64_t row = begin; row < end; row += together) {
    const int64_t n = together * n_bits;
    for (int64_t first = 0; first < n; first += kBlock) {
      pack_block(kernels, values, row * n_bits + first, std::min(kBlock, n - first), codes + row * n_bytes + first / 8, nan);
    }
  }
}

void pack_float_rows(const BitKernels& kernels, const float* values, int64_t n_bits, int64_t begin, int64_t end,
                     uint8_t* codes, FirstFault* nan) {
  const int64_t n_bytes = (n_bits + 7) / 8;
  for (int64_t row = begin; row < end; ++row) {
    if (kernels.pack_above(values + row * n_bits, nullptr, n_bits, codes + row * n_bytes)) nan->note(row);
  }
}

}  // namespace

Status pack_codes(const void* values, DType dtype, int64_t n, int64_t n_bits, uint8_t* codes, bool check,
                  int n_threads) {
  const Call call;
  FirstFault first_nan;
  const BitKernels& kernels = *level().bits;
  const int64_t n_tasks = task_count(n, static_cast<double>(n_bits) * 0.3, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const int64_t begin = n * task / n_tasks, end = n * (task + 1) / n_tasks;
    if (dtype == DType::float32) {
      pack_float_rows(kernels, static_cast<const float*>(values), n_bits, begin, end, codes, &first_nan);
    } else {
      pack_rows(kernels, {static_cast<const char*>(values), dtype, n_bits}, begin, end, codes, &first_nan);
    }
  });
  if (check && first_nan.found()) return first_nan.as(Fault::nan_value);
  return {};
}

}  // namespace dshc::cpu
