// bit[row, j] = value[row, j] > 0.
//
// Layout: values [n, n_bits] row by row, codes [n, ceil(n_bits / 8)]. Kernels, thread map, floor and limits: packed_bits.h.
#include "../core/pack_codes.h"

#include "packed_bits.h"

namespace dshc::cuda {
namespace {

template <class T>
int pack(const void* values, int64_t n, int64_t n_bits, uint8_t* codes, Stream stream) {
  return pack_bits<T, false>(static_cast<const T*>(values), n, n_bits, nullptr, codes, stream);
}

}  // namespace

int pack_codes(const void* values, DType dtype, int64_t n, int64_t n_bits, uint8_t* codes, void* stream) {
  if (n == 0) return 0;
  switch (dtype) {
    case DType::float32: return pack<float>(values, n, n_bits, codes, stream);
    case DType::float64: return pack<double>(values, n, n_bits, codes, stream);
    case DType::float16: return pack<__half>(values, n, n_bits, codes, stream);
    case DType::bfloat16: return pack<__nv_bfloat16>(values, n, n_bits, codes, stream);
    case DType::int8: return pack<int8_t>(values, n, n_bits, codes, stream);
    case DType::int16: return pack<int16_t>(values, n, n_bits, codes, stream);
    case DType::int32: return pack<int32_t>(values, n, n_bits, codes, stream);
    case DType::int64: return pack<int64_t>(values, n, n_bits, codes, stream);
    case DType::uint8: return pack<uint8_t>(values, n, n_bits, codes, stream);
    case DType::uint16: return pack<uint16_t>(values, n, n_bits, codes, stream);
    case DType::uint32: return pack<uint32_t>(values, n, n_bits, codes, stream);
    case DType::uint64: return pack<uint64_t>(values, n, n_bits, codes, stream);
  }
  return 1;  // cudaErrorInvalidValue
}

}  // namespace dshc::cuda
