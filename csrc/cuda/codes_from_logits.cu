// bit b of a row's code = sign of sum over its k largest logits' sub-classes of w_i (+1 or -1 as bit b of code i); a tied
// bit takes the bit of the first sub-class. w_i is 1, or exp(logit_i - largest logit). Equal logits: the lower index first.
//
// Layout: logits [n, n_subclasses], codebook [n_subclasses, n_bytes], codes [n, n_bytes]. Thread map: a block a row.
// 1. The largest logit and its lowest index: one pass. For k = 1 that is the whole answer.
// 2. The k-th largest: logits as unsigned keys that rise with them, a digit of 8 bits a pass, counted in shared memory
//    (4 passes for float32, 8 for float64; the row comes from cache after the first).
// 3. One pass in order of index: sub-classes above the k-th key, and as many equal ones as are left, are listed in shared
//    memory tile by tile; threads own bits of the code and add up the list.
// So any k up to n_subclasses costs the same passes over the logits, plus k * n_bits additions. Moved: each logit once from
// memory, the least possible. A sorted list a thread would bound k; a sort would move the row many times. Sums of ones are
// exact up to 2^24, in any order. Probabilities are not, and where they cancel (equal logits) only adding from the largest
// down gives 0: with them 2. and 3. are replaced by k passes, each of which finds the next best and adds its code. They
// suit the few sub-classes that carry weight; a large k costs as many passes.
// NaN ranks last. Limits: 2^31 rows (grid); codes up to 512 bytes (an accumulator a bit in shared memory).
#include "../core/codes_from_logits.h"

#include <type_traits>

#include "floats.h"
#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;

__device__ __forceinline__ uint32_t bits_of(float value) { return __float_as_uint(value); }
__device__ __forceinline__ uint64_t bits_of(double value) { return static_cast<uint64_t>(__double_as_longlong(value)); }

template <class R> using Key = std::conditional_t<std::is_same_v<R, double>, uint64_t, uint32_t>;

// Rises with the value; equal for -0 and 0; 0 for NaN, which is below the key of -inf.
template <class R>
__device__ __forceinline__ Key<R> key_of(R value) {
  constexpr Key<R> kSign = Key<R>{1} << (8 * sizeof(R) - 1);
  if (value != value) return 0;
  const Key<R> bits = bits_of(value == R{0} ? R{0} : value);
  return bits & kSign ? static_cast<Key<R>>(~bits) : bits | kSign;
}

template <class K>
struct First {
  K key;
  int64_t index;
};

template <class K>
__device__ __forceinline__ First<K> shuffle_xor(First<K> value, int offset) {
  return {__shfl_xor_sync(kFullMask, value.key, offset), cuda::shuffle_xor(value.index, offset)};
}

struct MergeFirst {
  template <class K>
  __device__ __forceinline__ First<K> operator()(First<K> a, First<K> b) const {
    return b.key > a.key || (b.key == a.key && b.index < a.index) ? b : a;
  }
};

// What a block keeps in shared memory, by offset; 16-byte aligned parts first.
template <class R>
struct Shared {
  First<Key<R>>* firsts;   // [kWarps]
  R* sums;                 // [8 * n_bytes]
  int64_t* listed;         // [kThreads]
  uint32_t* digit_counts;  // [kDigits]
  int32_t* warp_counts;    // [2, kWarps]

  static size_t bytes(int64_t n_bytes) {
    return kWarps * sizeof(First<Key<R>>) + kThreads * sizeof(int64_t) +
           static_cast<size_t>(8 * n_bytes) * sizeof(R) + kDigits * sizeof(uint32_t) + 2 * kWarps * sizeof(int32_t);
  }
  __device__ __forceinline__ explicit Shared(int64_t n_bytes) {
    firsts = dynamic_shared<First<Key<R>>>();
    listed = reinterpret_cast<int64_t*>(firsts + kWarps);
    sums = reinterpret_cast<R*>(listed + kThreads);
    digit_counts = reinterpret_cast<uint32_t*>(sums + 8 * n_bytes);
    warp_counts = reinterpret_cast<int32_t*>(digit_counts + kDigits);
  }
};

// The k-th largest key of a row, and how many of that key belong to the k largest.
template <class R, class T>
__device__ __forceinline__ Key<R> kth_key(const T* logits, int64_t n, int64_t k, uint32_t* digit_counts, int64_t* n_equal) {
  using K = Key<R>;
  K found = 0, known = 0;  // the digits settled so far, and their mask
  int64_t left = k;
  for (int shift = 8 * static_cast<int>(sizeof(K)) - kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kThreads) digit_counts[i] = 0;
    __syncthreads();
    for (int64_t j = threadIdx.x; j < n; j += kThreads) {
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
    __syncthreads();  // before the counters are used again
  }
  *n_equal = left;
  return found;
}

// A thread owns the same bits in all additions, so that none has to wait for another.
template <class R>
__device__ __forceinline__ void add_code(const uint8_t* code, int64_t n_bytes, R weight, R* sums) {
  for (int bit = static_cast<int>(threadIdx.x); bit < 8 * n_bytes; bit += kThreads) {
    sums[bit] += code[bit / 8] >> (bit % 8) & 1 ? weight : -weight;
  }
}

// The codes of the k best sub-classes, each with weight 1.
template <class T>
__device__ __forceinline__ void add_codes(const T* logits, int64_t n_subclasses, int64_t k, const uint8_t* codebook,
                                          int64_t n_bytes, const Shared<Real<T>>& shared) {
  using R = Real<T>;
  int64_t n_equal = 0;  // of the k-th key, still to be listed
  const Key<R> kth = kth_key<R>(logits, n_subclasses, k, shared.digit_counts, &n_equal);
  for (int64_t tile = 0; tile < n_subclasses; tile += kThreads) {
    const int64_t j = tile + threadIdx.x;
    const Key<R> key = j < n_subclasses ? key_of<R>(to_real(logits[j])) : Key<R>{0};
    const bool above = j < n_subclasses && key > kth, equal = j < n_subclasses && key == kth;
    // Equal keys are taken in order of index while some are left: count them before this thread, in warps, then in lanes.
    const unsigned equal_lanes = __ballot_sync(kFullMask, equal), above_lanes = __ballot_sync(kFullMask, above);
    if (lane() == 0) {
      shared.warp_counts[warp()] = __popc(equal_lanes);
      shared.warp_counts[kWarps + warp()] = __popc(above_lanes);
    }
    __syncthreads();
    int64_t equal_before = __popc(equal_lanes & lanes_below()), above_before = __popc(above_lanes & lanes_below());
    int64_t equal_here = 0, above_here = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp()) {
        equal_before += shared.warp_counts[w];
        above_before += shared.warp_counts[kWarps + w];
      }
      equal_here += shared.warp_counts[w];
      above_here += shared.warp_counts[kWarps + w];
    }
    const int64_t taken_before = equal_before < n_equal ? equal_before : n_equal;
    if (above || (equal && equal_before < n_equal)) shared.listed[above_before + taken_before] = j;
    __syncthreads();
    const int64_t taken = equal_here < n_equal ? equal_here : n_equal;
    n_equal -= taken;
    for (int64_t i = 0; i < above_here + taken; ++i) {
      add_code(codebook + shared.listed[i] * n_bytes, n_bytes, R{1}, shared.sums);
    }
    __syncthreads();  // the list is read
  }
}

// The codes of the k best sub-classes, from the best down, weighted by exp(logit - largest logit).
template <class T>
__device__ __forceinline__ void add_weighted_codes(const T* logits, int64_t n_subclasses, int64_t k,
                                                   First<Key<Real<T>>> first, const uint8_t* codebook, int64_t n_bytes,
                                                   const Shared<Real<T>>& shared) {
  using R = Real<T>;
  const R top = to_real(logits[first.index]);
  First<Key<R>> last = first;
  add_code(codebook + first.index * n_bytes, n_bytes, R{1}, shared.sums);
  for (int64_t rank = 1; rank < k; ++rank) {
    First<Key<R>> next{0, n_subclasses};
    for (int64_t j = threadIdx.x; j < n_subclasses; j += kThreads) {
      const First<Key<R>> candidate{key_of<R>(to_real(logits[j])), j};
      const bool after = candidate.key < last.key || (candidate.key == last.key && j > last.index);
      if (after) next = MergeFirst{}(next, candidate);
    }
    last = block_reduce(next, MergeFirst{}, shared.firsts);
    const R logit = to_real(logits[last.index]);
    const R weight = logit == top ? R{1} : exp_of(logit - top);  // not of inf - inf
    add_code(codebook + last.index * n_bytes, n_bytes, weight, shared.sums);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 6) codes_kernel(const T* __restrict__ all_logits, int64_t n_subclasses,
                                                         const uint8_t* __restrict__ codebook, int64_t n_bytes, int64_t k,
                                                         Weighting weighting, uint8_t* __restrict__ codes) {
  using R = Real<T>;
  const Shared<R> shared(n_bytes);
  const T* logits = all_logits + blockIdx.x * n_subclasses;
  uint8_t* code = codes + blockIdx.x * n_bytes;

  First<Key<R>> first{0, n_subclasses - 1};
  for (int64_t j = threadIdx.x; j < n_subclasses; j += kThreads) {
    first = MergeFirst{}(first, {key_of<R>(to_real(logits[j])), j});
  }
  first = block_reduce(first, MergeFirst{}, shared.firsts);
  const uint8_t* first_code = codebook + first.index * n_bytes;
  if (k == 1) {
    for (int64_t byte = threadIdx.x; byte < n_bytes; byte += kThreads) code[byte] = first_code[byte];
    return;
  }

  for (int64_t bit = threadIdx.x; bit < 8 * n_bytes; bit += kThreads) shared.sums[bit] = 0;
  if (weighting == Weighting::mean) {
    add_codes(logits, n_subclasses, k, codebook, n_bytes, shared);
  } else {
    add_weighted_codes(logits, n_subclasses, k, first, codebook, n_bytes, shared);
  }
  // A ballot of 32 bits is four bytes of the code; n_bits is a multiple of 8, so a warp's last ballot may be short.
  const int n_bits = static_cast<int>(8 * n_bytes);
  for (int begin = warp() * kWarp; begin < n_bits; begin += kThreads) {
    const int bit = begin + lane();
    const R sum = bit < n_bits ? shared.sums[bit] : R{0};
    const bool one = bit < n_bits && (sum > 0 || (sum == 0 && (first_code[bit / 8] >> (bit % 8) & 1)));
    const unsigned ones = __ballot_sync(kFullMask, one);
    if (lane() < 4 && begin / 8 + lane() < n_bytes) code[begin / 8 + lane()] = static_cast<uint8_t>(ones >> (8 * lane()));
  }
}

}  // namespace

int codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                      int64_t n_bytes, int64_t k, Weighting weighting, uint8_t* codes, void* stream) {
  if (n == 0) return 0;
  return with_floats(dtype, logits, [&](auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    return launch(codes_kernel<T>, grid_of(n), dim3(kThreads), Shared<Real<T>>::bytes(n_bytes), stream, typed, n_subclasses,
                  codebook, n_bytes, k, weighting, codes);
  });
}

}  // namespace dshc::cuda
