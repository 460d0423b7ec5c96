// unpack_codes: packed bits to one byte a bit, 0/1 or (is_signed) -1/+1.
#pragma once
#include "types.h"

namespace dshc::cpu {

// codes [n, n_bytes], values [n, n_bits] with n_bits <= 8 * n_bytes.
void unpack_codes(const uint8_t* codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, uint8_t* values,
                  int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int unpack_codes(const uint8_t* codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, uint8_t* values,
                 void* stream);

}  // namespace dshc::cuda
