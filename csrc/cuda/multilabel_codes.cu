// bit[row, j] = logit[row, j] > threshold[j], compared as float64.
//
// Layout: logits [n, n_bits], thresholds [n_bits], codes [n, ceil(n_bits / 8)]. Thread map and cost: as pack_codes.cu, a
// warp per row, a ballot for each 32 logits; the thresholds are read by every row and stay in cache. A NaN gives 0.
// Limits: 2^34 rows (grid).
#include "../core/multilabel_codes.h"

#include <type_traits>

#include "floats.h"
#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kRows = 8;  // per block, one per warp

template <class T>
__global__ void threshold_kernel(const T* __restrict__ logits, int64_t n, int64_t n_bits,
                                 const double* __restrict__ thresholds, uint8_t* __restrict__ codes) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows + warp();
  if (row >= n) return;  // a whole warp
  const int64_t n_bytes = (n_bits + 7) / 8;
  for (int64_t j = 0; j < n_bits; j += kWarp) {
    const int64_t mine = j + lane();
    const bool one = mine < n_bits && static_cast<double>(to_real(logits[row * n_bits + mine])) > thresholds[mine];
    const unsigned bits = __ballot_sync(kFullMask, one);
    if (lane() < 4 && j / 8 + lane() < n_bytes) {
      codes[row * n_bytes + j / 8 + lane()] = static_cast<uint8_t>(bits >> (8 * lane()));
    }
  }
}

}  // namespace

int multilabel_codes(const void* logits, DType dtype, int64_t n, int64_t n_bits, const double* thresholds,
                     uint8_t* codes, void* stream) {
  if (n == 0) return 0;
  return with_floats(dtype, logits, [&](auto* typed) {
    return launch(threshold_kernel<std::remove_const_t<std::remove_pointer_t<decltype(typed)>>>,
                  grid_of(divide_up(n, kRows)), dim3(kRows * kWarp), 0, stream, typed, n, n_bits, thresholds, codes);
  });
}

}  // namespace dshc::cuda
