// center_codes_from_logits: the center of the class whose sub-classes have the largest log-sum-exp (equal: lower class).
#pragma once
#include "types.h"

namespace dshc::cpu {

// logits [n, n_subclasses], class_offsets [n_classes + 1], centers [n_classes, n_bytes], codes [n, n_bytes].
// If `check`, reports the first row with a NaN; unchecked, a class with a NaN ranks last.
Status center_codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses,
                                const int64_t* class_offsets, int64_t n_classes, const uint8_t* centers,
                                int64_t n_bytes, uint8_t* codes, bool check, int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

// Entries of class_offsets outside [0, n_subclasses] count as the nearest that is inside.
int center_codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses,
                             const int64_t* class_offsets, int64_t n_classes, const uint8_t* centers, int64_t n_bytes,
                             uint8_t* codes, void* stream);

}  // namespace dshc::cuda
