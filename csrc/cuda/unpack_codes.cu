// value[row, j] = bit j of the row's code, as 0/1 or -1/+1.
//
// Layout: codes [n, n_bytes], values [n, n_bits], one byte a value. Thread map: a thread makes 16 consecutive values of the whole
// output and writes them as one vector, 4 of them a block's width apart, so that four reads are in flight and each store of a
// warp is 512 consecutive bytes. Where rows have no padding bits the codes are one run too, and the 16 bits lie in two bytes;
// else they are put together from the rows they lie in, one or two from 16 bits a row on. Moved: a code byte and 8 value bytes,
// each once, which is the least possible; 4 bits become 4 values by one multiplication, a mask and a multiply-add.
// Limits: 2^31 blocks of 16,384 values.
#include "../core/unpack_codes.h"

#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256, kVectors = 4, kValues = 16;
constexpr int64_t kBlockValues = int64_t{kThreads} * kVectors * kValues;

// The bytes of 4 values. Times 1 + 2^7 + 2^14 + 2^21, bit j is also at 8 j, and no two bits meet.
__device__ __forceinline__ uint32_t four_values(unsigned bits, bool is_signed) {
  const uint32_t ones = (bits & 0xF) * 0x204081u & 0x01010101u;
  return is_signed ? ~uint32_t{0} - ones * 0xFE : ones;  // 0xFF for 0, 1 for 1: no byte borrows
}

// 16 bits of the rows, without their padding, from bit `at` of `total` on.
__device__ __forceinline__ unsigned bits_of_rows(const uint8_t* codes, int64_t n_bytes, int64_t n_bits, int64_t at,
                                                 int64_t total) {
  const bool narrow = total <= UINT32_MAX;  // a division of 64 bits takes some hundred instructions
  int64_t row = narrow ? static_cast<uint32_t>(at) / static_cast<uint32_t>(n_bits) : at / n_bits;
  int64_t column = at - row * n_bits;
  unsigned bits = 0;
  for (int got = 0; got < kValues && at + got < total; ++row, column = 0) {
    const int64_t rest = n_bits - column;
    const int n = rest < kValues - got ? static_cast<int>(rest) : kValues - got;
    const uint8_t* from = codes + row * n_bytes + column / 8;
    const int shift = static_cast<int>(column % 8);
    unsigned some = from[0];
    if (shift + n > 8) some |= static_cast<unsigned>(from[1]) << 8;
    if (shift + n > 16) some |= static_cast<unsigned>(from[2]) << 16;
    bits |= (some >> shift & ((1u << n) - 1)) << got;
    got += n;
  }
  return bits;
}

// Values [total]. kRun: the bits of `codes` are a run without padding, in an even place if `even`.
template <bool kRun>
__global__ void __launch_bounds__(kThreads) unpack_kernel(const uint8_t* __restrict__ codes, int64_t n_bytes, int64_t n_bits,
                                                          int64_t total, bool is_signed, bool even, bool vectors,
                                                          uint8_t* __restrict__ values) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kBlockValues + threadIdx.x * kValues;
  unsigned bits[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = first + v * (kThreads * kValues);
    bits[v] = 0;
    if constexpr (kRun) {
      if (even) {
        if (at + 8 < total) {
          bits[v] = *reinterpret_cast<const uint16_t*>(codes + at / 8);
        } else if (at < total) {
          bits[v] = codes[at / 8];
        }
      } else {
        if (at < total) bits[v] = codes[at / 8];
        if (at + 8 < total) bits[v] |= static_cast<unsigned>(codes[at / 8 + 1]) << 8;
      }
    } else {
      if (at < total) bits[v] = bits_of_rows(codes, n_bytes, n_bits, at, total);
    }
  }
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = first + v * (kThreads * kValues);
    if (vectors && at + kValues <= total) {
      const uint4 four = make_uint4(four_values(bits[v], is_signed), four_values(bits[v] >> 4, is_signed),
                                    four_values(bits[v] >> 8, is_signed), four_values(bits[v] >> 12, is_signed));
      __stcs(reinterpret_cast<uint4*>(values + at), four);
    } else {
#pragma unroll 1
      for (int j = 0; j < kValues && at + j < total; ++j) {
        values[at + j] = static_cast<uint8_t>(four_values(bits[v] >> j, is_signed));
      }
    }
  }
}

}  // namespace

int unpack_codes(const uint8_t* codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, uint8_t* values,
                 void* stream) {
  if (n == 0) return 0;
  const bool run = n_bits == 8 * n_bytes;
  return launch(run ? unpack_kernel<true> : unpack_kernel<false>, grid_of(divide_up(n * n_bits, kBlockValues)),
                dim3(kThreads), 0, stream, codes, n_bytes, n_bits, n * n_bits, is_signed,
                reinterpret_cast<uintptr_t>(codes) % 2 == 0, reinterpret_cast<uintptr_t>(values) % 16 == 0, values);
}

}  // namespace dshc::cuda
