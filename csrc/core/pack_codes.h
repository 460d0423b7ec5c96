// pack_codes: real values to packed bits; unpack_codes: packed bits to 0/1 or -1/+1.
// Bit j of a row is byte j / 8, position j % 8. A bit is 1 where the value is > 0. Padding bits are 0.
#pragma once
#include "types.h"

namespace dshc::cpu {

// values [n, n_bits] of `dtype`, codes [n, ceil(n_bits / 8)]. Reports the first row that holds a NaN if `check`;
// unchecked, a NaN gives 0 (it is not > 0).
Status pack_codes(const void* values, DType dtype, int64_t n, int64_t n_bits, uint8_t* codes, bool check,
                  int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int pack_codes(const void* values, DType dtype, int64_t n, int64_t n_bits, uint8_t* codes, void* stream);

}  // namespace dshc::cuda
