#include "../core/pack_codes.h"

#include "../common/dtype.h"
#include "call/call.h"
#include "call/threads.h"
#include "kernels/level.h"
#include "logits/first_fault.h"
#include "logits/pack_bits.h"

namespace dshc::cpu {
namespace {

// float16 and bfloat16 by their bits: > 0 is a clear sign, not zero, not past the infinity's pattern.
template <uint16_t kInfinity>
struct Half {
  uint16_t bits;
  bool positive() const { return bits != 0 && bits <= kInfinity; }
  bool nan() const { return (bits & 0x7FFF) > kInfinity; }
};

template <class T>
bool positive(T value) { return value > 0; }
template <uint16_t kInfinity>
bool positive(Half<kInfinity> value) { return value.positive(); }

template <class T>
bool is_nan(T value) { return value != value; }
template <uint16_t kInfinity>
bool is_nan(Half<kInfinity> value) { return value.nan(); }

// Whether a value of the row is a NaN.
template <class T>
bool pack_values(const BitKernels&, const T* values, int64_t n_bits, uint8_t* code) {
  bool nan = false;
  pack_row(n_bits, code, [&](int64_t j) {
    nan |= is_nan(values[j]);
    return positive(values[j]);
  });
  return nan;
}

bool pack_values(const BitKernels& kernels, const float* values, int64_t n_bits, uint8_t* code) {
  return kernels.pack_above(values, nullptr, n_bits, code);
}

template <class T>
Status pack(const void* values, int64_t n, int64_t n_bits, uint8_t* codes, bool check, int n_threads) {
  const int64_t n_bytes = (n_bits + 7) / 8;
  const auto* typed = static_cast<const T*>(values);
  FirstFault first_nan;
  const BitKernels& kernels = *level().bits;
  const int64_t n_tasks = task_count(n, static_cast<double>(n_bits) * 0.3, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      if (pack_values(kernels, typed + row * n_bits, n_bits, codes + row * n_bytes)) first_nan.note(row);
    }
  });
  if (check && first_nan.found()) return first_nan.as(Fault::nan_value);
  return {};
}

}  // namespace

Status pack_codes(const void* values, DType dtype, int64_t n, int64_t n_bits, uint8_t* codes, bool check,
                  int n_threads) {
  const Call call;
  switch (dtype) {
    case DType::float32: return pack<float>(values, n, n_bits, codes, check, n_threads);
    case DType::float64: return pack<double>(values, n, n_bits, codes, check, n_threads);
    case DType::float16: return pack<Half<0x7C00>>(values, n, n_bits, codes, check, n_threads);
    case DType::bfloat16: return pack<Half<0x7F80>>(values, n, n_bits, codes, check, n_threads);
    case DType::int8: return pack<int8_t>(values, n, n_bits, codes, check, n_threads);
    case DType::int16: return pack<int16_t>(values, n, n_bits, codes, check, n_threads);
    case DType::int32: return pack<int32_t>(values, n, n_bits, codes, check, n_threads);
    case DType::int64: return pack<int64_t>(values, n, n_bits, codes, check, n_threads);
    case DType::uint8: return pack<uint8_t>(values, n, n_bits, codes, check, n_threads);
    case DType::uint16: return pack<uint16_t>(values, n, n_bits, codes, check, n_threads);
    case DType::uint32: return pack<uint32_t>(values, n, n_bits, codes, check, n_threads);
    case DType::uint64: return pack<uint64_t>(values, n, n_bits, codes, check, n_threads);
  }
  return {};
}

}  // namespace dshc::cpu
