// codes_from_logits: the k largest logits of a row, the (weighted) mean of their sub-classes' codes, the sign, packed.
// Equal logits: the lower index first. A tied bit is that of the first sub-class.
#pragma once
#include "types.h"

namespace dshc {

enum class Weighting : int32_t { mean = 0, probability = 1 };

namespace cpu {

// logits [n, n_subclasses] float32, float16, bfloat16 or float64; codebook [n_subclasses, n_bytes]; codes [n, n_bytes].
// 1 <= k <= n_subclasses. If `check`, reports the first row with a NaN, and with +inf where weighting is probability;
// unchecked, NaN ranks last. `subclasses` [n, n_subclasses], null for 0, 1, 2, ...: the codebook's row of each logit; equal
// logits of a row then come in the order of their columns.
Status codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                         int64_t n_bytes, int64_t k, Weighting weighting, const int64_t* subclasses, uint8_t* codes,
                         bool check, int n_threads);

// top [n, k]: the columns of each row's k largest logits, in an order that keeps equal logits in the order of their columns;
// with equal logits the lower columns count. NaN is reported or ranks last, as above.
Status top_subclasses(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, int64_t k, int64_t* top, bool check,
                      int n_threads);

}  // namespace cpu
}  // namespace dshc

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                      int64_t n_bytes, int64_t k, Weighting weighting, const int64_t* subclasses, uint8_t* codes,
                      void* stream);
int top_subclasses(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, int64_t k, int64_t* top, void* stream);

}  // namespace dshc::cuda
