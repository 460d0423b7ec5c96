// Rows of logits of any float type, read as float (float16, bfloat16, float32) or double.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "../../common/dtype.h"
#include "../kernels/level.h"

namespace dshc::cpu {

inline const char* row_start(const void* values, DType dtype, int64_t row, int64_t width) {
  return static_cast<const char*>(values) + row * width * size_of(dtype);
}

// The row itself where it is float32 already, else a converted copy in `buffer`.
inline const float* float_row(const FloatKernels& kernels, const void* values, DType dtype, int64_t row, int64_t width,
                              std::vector<float>& buffer) {
  const char* start = row_start(values, dtype, row, width);
  if (dtype == DType::float32) return reinterpret_cast<const float*>(start);
  buffer.resize(static_cast<size_t>(width));
  const auto* halves = reinterpret_cast<const uint16_t*>(start);
  (dtype == DType::float16 ? kernels.from_float16 : kernels.from_bfloat16)(halves, width, buffer.data());
  return buffer.data();
}

// The same few loops for both widths, through the instruction set's table (what is rare of double in plain C++). The table is
// the caller's to fetch, once for many rows: of ten columns each, the look for it is a tenth of the work.
inline float max_value(const FloatKernels& k, const float* v, int64_t n) { return k.max_value(v, n); }
inline bool any_nan(const FloatKernels& k, const float* v, int64_t n) { return k.any_nan(v, n); }
inline float sum_exp(const FloatKernels& k, const float* v, int64_t n, float shift) { return k.sum_exp(v, n, shift); }
inline float keep_exp(const FloatKernels& k, const float* v, int64_t n, float shift, float* out) {
  return k.keep_exp(v, n, shift, out);
}
inline void scaled_exp(const FloatKernels& k, const float* v, int64_t n, float shift, float scale, float* out) {
  k.scaled_exp(v, n, shift, scale, out);
}
inline void multiply(const FloatKernels& k, const float* v, int64_t n, float factor, float* out) {
  k.multiply(v, n, factor, out);
}
inline bool bound_of_top(const FloatKernels& kernels, const float* v, int64_t n, int64_t k, float* bound) {
  return kernels.bound_of_top(v, n, k, bound);
}
inline int64_t select_at_least(const FloatKernels& k, const float* v, int64_t n, float bound, uint32_t* positions) {
  return k.select_at_least(v, n, bound, positions);
}

inline double max_value(const FloatKernels& k, const double* v, int64_t n) { return k.max_value_64(v, n); }
inline double sum_exp(const FloatKernels& k, const double* v, int64_t n, double shift) { return k.sum_exp_64(v, n, shift); }
inline double keep_exp(const FloatKernels& k, const double* v, int64_t n, double shift, double* out) {
  return k.keep_exp_64(v, n, shift, out);
}
inline void scaled_exp(const FloatKernels& k, const double* v, int64_t n, double shift, double scale, double* out) {
  k.scaled_exp_64(v, n, shift, scale, out);
}
inline void multiply(const FloatKernels& k, const double* v, int64_t n, double factor, double* out) {
  k.multiply_64(v, n, factor, out);
}

inline bool any_nan(const FloatKernels&, const double* v, int64_t n) {
  bool found = false;
  for (int64_t i = 0; i < n; ++i) found |= v[i] != v[i];
  return found;
}

inline bool bound_of_top(const FloatKernels& kernels, const double* v, int64_t n, int64_t k, double* bound) {
  double maxima[kBuckets];
  for (double& best : maxima) best = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    double& best = maxima[i % kBuckets];
    best = v[i] > best ? v[i] : best;
  }
  *bound = -std::numeric_limits<double>::infinity();
  if (k <= kBuckets) {
    std::nth_element(maxima, maxima + (k - 1), maxima + kBuckets, std::greater<double>());
    *bound = maxima[k - 1];
  }
  return any_nan(kernels, v, n);
}

inline int64_t select_at_least(const FloatKernels&, const double* v, int64_t n, double bound, uint32_t* positions) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    positions[found] = static_cast<uint32_t>(i);
    found += v[i] >= bound;
  }
  return found;
}

}  // namespace dshc::cpu
