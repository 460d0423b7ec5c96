// bit[row, j] = logit[row, j] > threshold[j], compared as float64.
//
// Layout: logits [n, n_bits], thresholds [n_bits], codes [n, ceil(n_bits / 8)]. Kernels, thread map, floor and limits:
// packed_bits.h. A NaN gives 0. Rows that end with a whole byte are compared in float (but for float64 logits) with the largest
// float that is not above the threshold, which gives the same bits.
#include "../core/multilabel_codes.h"

#include <type_traits>

#include "packed_bits.h"

namespace dshc::cuda {

int multilabel_codes(const void* logits, DType dtype, int64_t n, int64_t n_bits, const double* thresholds,
                     uint8_t* codes, void* stream) {
  if (n == 0) return 0;
  return with_floats(dtype, logits, [&](auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    return pack_bits<T, true>(typed, n, n_bits, thresholds, codes, stream);
  });
}

}  // namespace dshc::cuda
