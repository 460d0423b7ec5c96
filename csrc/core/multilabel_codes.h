// multilabel_codes: bit = logit > threshold, packed; one threshold, or one per class.
#pragma once
#include "types.h"

namespace dshc::cpu {

// logits [n, n_bits], thresholds [n_bits] float64, codes [n, ceil(n_bits / 8)]. Logits are compared as float64.
// Reports the first row with a NaN if `check`; unchecked, a NaN gives 0.
Status multilabel_codes(const void* logits, DType dtype, int64_t n, int64_t n_bits, const double* thresholds,
                        uint8_t* codes, bool check, int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int multilabel_codes(const void* logits, DType dtype, int64_t n, int64_t n_bits, const double* thresholds,
                     uint8_t* codes, void* stream);

}  // namespace dshc::cuda
