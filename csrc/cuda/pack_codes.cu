// bit[row, j] = value[row, j] > 0.
//
// Layout: values [n, n_bits] row by row, codes [n, ceil(n_bits / 8)]. Thread map: a warp takes a row, a lane one value of
// each 32; a ballot makes 32 bits of 32 comparisons, lanes 0 to 3 write a byte each. So loads are coalesced for every
// dtype, and no row length needs a case of its own. Moved: each value and each code byte once, which is the least possible.
// A thread that reads 8 values and writes a byte would read with a stride of 8 values and use a quarter of each sector.
// Limits: none beyond 2^34 rows (grid).
#include "../core/pack_codes.h"

#include "floats.h"
#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kRows = 8;  // per block, one per warp

template <class T> __device__ __forceinline__ bool positive(T value) { return value > 0; }
template <> __device__ __forceinline__ bool positive(__half value) { return to_real(value) > 0; }
template <> __device__ __forceinline__ bool positive(__nv_bfloat16 value) { return to_real(value) > 0; }

template <class T>
__global__ void pack_kernel(const T* __restrict__ values,  // [n, n_bits]
                            int64_t n, int64_t n_bits, uint8_t* __restrict__ codes /* [n, n_bytes] */) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + warp();
  if (row >= n) return;  // a whole warp
  const int64_t n_bytes = (n_bits + 7) / 8;
  const T* from = values + row * n_bits;
  uint8_t* to = codes + row * n_bytes;
  for (int64_t j = 0; j < n_bits; j += kWarp) {
    const bool one = j + lane() < n_bits && positive(from[j + lane()]);
    const unsigned bits = __ballot_sync(kFullMask, one);
    if (lane() < 4 && j / 8 + lane() < n_bytes) to[j / 8 + lane()] = static_cast<uint8_t>(bits >> (8 * lane()));
  }
}

template <class T>
int pack(const void* values, int64_t n, int64_t n_bits, uint8_t* codes, Stream stream) {
  return launch(pack_kernel<T>, grid_of(divide_up(n, kRows)), dim3(kRows * kWarp), 0, stream,
                static_cast<const T*>(values), n, n_bits, codes);
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
