// value[row, j] = bit j of the row's code, as 0/1 or -1/+1.
//
// Layout: codes [n, n_bytes], values [n, n_bits], one byte a value. Thread map: where rows have no padding bits the whole
// array is one run of code bytes, a thread expands one of them into 8 values and writes them as one word; else a warp
// takes a row and a lane each 32nd value. Moved: a code byte and 8 value bytes, each once, which is the least possible; the
// expansion is one multiplication and two masks. Limits: none beyond 2^34 rows, 2^39 code bytes (grid).
#include "../core/unpack_codes.h"

#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void expand_bytes_kernel(const uint8_t* __restrict__ codes, int64_t n, bool is_signed,
                                    uint64_t* __restrict__ values /* [n] */) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  // Copies of the byte in all 8 bytes, bit j alone left in byte j, then 1 wherever something is left: adding 0x7F
  // carries into bit 7 of each byte that is not zero, and never beyond (0x80 + 0x7F = 0xFF).
  const uint64_t each = codes[i] * 0x0101010101010101ull & 0x8040201008040201ull;
  const uint64_t ones = (each + 0x7F7F7F7F7F7F7F7Full) >> 7 & 0x0101010101010101ull;
  // 0xFF where the bit is 0, 1 where it is 1: all ones minus 0xFE in the bytes that have the bit.
  values[i] = is_signed ? ~uint64_t{0} - ones * 0xFE : ones;
}

constexpr int kRows = kThreads / kWarp;

__global__ void unpack_rows_kernel(const uint8_t* __restrict__ codes, int64_t n, int64_t n_bytes, int64_t n_bits,
                                   bool is_signed, uint8_t* __restrict__ values) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + warp();
  if (row >= n) return;
  const int scale = is_signed ? 2 : 1, shift = is_signed ? -1 : 0;
  for (int64_t j = lane(); j < n_bits; j += kWarp) {
    values[row * n_bits + j] = static_cast<uint8_t>((codes[row * n_bytes + j / 8] >> (j % 8) & 1) * scale + shift);
  }
}

}  // namespace

int unpack_codes(const uint8_t* codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, uint8_t* values,
                 void* stream) {
  if (n == 0) return 0;
  if (n_bits == 8 * n_bytes && reinterpret_cast<uintptr_t>(values) % 8 == 0) {
    return launch(expand_bytes_kernel, grid_of(divide_up(n * n_bytes, kThreads)), dim3(kThreads), 0, stream, codes,
                  n * n_bytes, is_signed, reinterpret_cast<uint64_t*>(values));
  }
  return launch(unpack_rows_kernel, grid_of(divide_up(n, kRows)), dim3(kThreads), 0, stream, codes, n, n_bytes, n_bits,
                is_signed, values);
}

}  // namespace dshc::cuda
