// The k-th largest key of a row, by a block or by a warp: a digit of 8 bits a pass, counted in shared memory (4 passes for
// float32, 8 for float64; the row comes from cache after the first). A thread has 8 loads on the way.
#pragma once
#include "best_few.h"
#include "warp.h"

namespace dshc::cuda {

constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;

// Who works together: all threads of the block, or the lanes of a warp.
struct WholeBlock {
  __device__ __forceinline__ static int size() { return static_cast<int>(blockDim.x); }
  __device__ __forceinline__ static int rank() { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ static void meet() { __syncthreads(); }
};
struct OneWarp {
  __device__ __forceinline__ static int size() { return kWarp; }
  __device__ __forceinline__ static int rank() { return lane(); }
  __device__ __forceinline__ static void meet() { __syncwarp(); }
};

// *n_equal: how many of that key belong to the k largest; *all_equal: whether these are all that the row has. Every thread
// gets the result. digit_counts: kDigits of shared memory for each group, free to use again after.
template <class R, class Group, class T>
__device__ __forceinline__ Key<R> kth_key(const T* logits, int64_t n, int64_t k, uint32_t* digit_counts, int64_t* n_equal,
                                          bool* all_equal) {
  using K = Key<R>;
  constexpr int kTogether = 8;
  const int threads = Group::size();
  K found = 0, known = 0;  // the digits settled so far, and their mask
  int64_t left = k;
  for (int shift = 8 * static_cast<int>(sizeof(K)) - kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int i = Group::rank(); i < kDigits; i += threads) digit_counts[i] = 0;
    Group::meet();
    for (int64_t j = Group::rank(); j < n; j += kTogether * threads) {
      T values[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) values[u] = j + u * threads < n ? logits[j + u * threads] : T{};
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const K key = key_of<R>(to_real(values[u]));
        if (j + u * threads < n && (key & known) == found) atomicAdd(digit_counts + (key >> shift & (kDigits - 1)), 1u);
      }
    }
    Group::meet();
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
    Group::meet();  // before the counters are used again
  }
  *n_equal = left;
  return found;
}

// The column of the n-th value that has the key `kth`, by the block or by a warp.
template <class R, class Group, class T>
__device__ __forceinline__ int column_of_equal(const T* row, int n_columns, Key<R> kth, int64_t n, int32_t* warp_counts) {
  int found = n_columns;
  for (int tile = 0; tile < n_columns && found == n_columns; tile += Group::size()) {
    const int j = tile + Group::rank();
    const unsigned equal = __ballot_sync(kFullMask, j < n_columns && key_of<R>(to_real(row[j])) == kth);
    if (lane() == 0) warp_counts[Group::rank() / kWarp] = static_cast<int32_t>(equal);
    Group::meet();
    for (int w = 0; w < Group::size() / kWarp; ++w) {
      const auto lanes = static_cast<unsigned>(warp_counts[w]);
      for (int i = 0; i < kWarp && n > 0; ++i) {
        n -= lanes >> i & 1;
        if (n == 0) found = tile + w * kWarp + i;
      }
    }
    Group::meet();
  }
  return found;
}

}  // namespace dshc::cuda
