// The k-th largest key of a row, by a block: a digit of 8 bits a pass, counted in shared memory (4 passes for float32, 8 for
// float64; the row comes from cache after the first).
#pragma once
#include "best_few.h"
#include "warp.h"

namespace dshc::cuda {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;

// *n_equal: how many of that key belong to the k largest; *all_equal: whether these are all that the row has. Every thread
// gets the result. digit_counts: kDigits of shared memory, free to use again after.
template <class R, class T>
__device__ __forceinline__ Key<R> kth_key(const T* logits, int64_t n, int64_t k, uint32_t* digit_counts, int64_t* n_equal,
                                          bool* all_equal) {
  using K = Key<R>;
  const int threads = static_cast<int>(blockDim.x);
  K found = 0, known = 0;  // the digits settled so far, and their mask
  int64_t left = k;
  for (int shift = 8 * static_cast<int>(sizeof(K)) - kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += threads) digit_counts[i] = 0;
    __syncthreads();
    for (int64_t j = threadIdx.x; j < n; j += threads) {
      const K key = key_of<R>(to_real(logits[j]));
      if ((key & known) == found) atomicAdd(digit_counts + (key >> shift & (kDigits - 1)), 1u);
    }
    __syncthreads();
    // From the largest digit down, 8 a lane: the lane in whose share the `left`-th key lies finds its digit. Every warp
    // does the same, so that nothing has to be handed round.
    int digit = kDigits - 1 - kDigits / kWarp * lane();
    int64_t share = 0;
    for (int i = 0; i < kDigits / kWarp; ++i) share += digit_counts[digit - i];
    int64_t rest = left - warp_sum_below(share);
    const bool here = rest > 0 && rest <= share;
    const int owner = __ffs(static_cast<int>(__ballot_sync(kFullMask, here))) - 1;
    if (here) {
      while (rest > digit_counts[digit]) rest -= digit_counts[digit--];
    }
    digit = __shfl_sync(kFullMask, digit, owner);
    left = __shfl_sync(kFullMask, static_cast<long long>(rest), owner);
    found |= static_cast<K>(digit) << shift;
    known |= static_cast<K>(kDigits - 1) << shift;
    *all_equal = left == digit_counts[digit];
    __syncthreads();  // before the counters are used again
  }
  *n_equal = left;
  return found;
}

}  // namespace dshc::cuda
