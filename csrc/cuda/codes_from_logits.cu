// bit b of a row's code = sign of sum over its k largest logits' sub-classes of w_i (+1 or -1 as bit b of code i); a tied
// bit is that of the first sub-class. w_i is 1, or exp(logit_i - largest logit). Equal logits: the lower index first.
//
// Layout: logits [n, n_subclasses], codebook [n_subclasses, n_bytes], codes [n, n_bytes].
//
// k <= 8: one to eight warps per row, as many as fill the GPU; each keeps its k best (best_few.h), the row's first warp merges
// them, and its lanes own bits of the code. Moved: each logit once, the least possible, 48 bytes per lane always in flight, which
// is 48 KiB on the way to the 32 warps of a multiprocessor. Instructions: some fifty for the 12 logits (24 of a 16-bit type) that
// a lane takes at once, and forty for each of the k ln(n / k) that enter a list, which is next to nothing in a row of 30,000
// and most of the work in one of 300: there arithmetic is the bound, not memory.
//
// k > 8 by probability: as a matrix product (weighted_codes.h says how, and of its exact sums).
//
// Other k > 8: one block per row.
// 1. The largest logit and its lowest index: one pass; by probability the sum of the weights in another.
// 2. The k-th largest: kth_key.h.
// 3. One pass in order of index: sub-classes above the k-th key, and as many equal ones as are left, are listed in shared
//    memory tile by tile; threads own bits of the code and add up the list.
// So any k up to n_subclasses costs the same passes over the logits, plus k * n_bits additions. A sorted list a thread would
// bound k; a sort would move the row many times. Sums are of integers (a probability is one of up to 61 bits), so that they are
// exact in any order. By probability this is for what the product cannot do: columns that stand for other sub-classes, more
// than 2^23 of them, compute capability 7.5.
//
// top_subclasses is the same without the codes. NaN ranks last. Limits: 2^31 rows (grid); codes up to 512 bytes (an
// accumulator a bit in shared memory, for k > 8).
#include "../core/codes_from_logits.h"

#include <type_traits>

#include "best_few.h"
#include "kth_key.h"
#include "weighted_codes.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

// What becomes of the k largest: codes, or their columns where `top` is not null.
struct Answer {
  const uint8_t* codebook;  // [n_subclasses, n_bytes]
  int64_t n_bytes;
  int64_t k;
  Weighting weighting;
  const int64_t* subclasses;  // [n, n_subclasses]: the codebook's row of each logit; null: its column
  uint8_t* codes;             // [n, n_bytes]
  int64_t* top;               // [n, k]
};

__device__ __forceinline__ const uint8_t* code_at(const Answer& answer, int64_t row, int64_t n_subclasses, int64_t column) {
  const int64_t subclass = answer.subclasses ? answer.subclasses[row * n_subclasses + column] : column;
  return answer.codebook + subclass * answer.n_bytes;
}

// ---- k <= 8 ----

constexpr int kFewWarps = 8;

template <class R>
struct Place {
  Key<R> key;
  int index;
};

template <class R>
__device__ __forceinline__ void write_few(const Answer& answer, int64_t row, int64_t n_subclasses, const BestFew<R>& best) {
  const int k = static_cast<int>(answer.k);
  if (answer.top) {
    if (lane() < k) answer.top[row * k + lane()] = best.index();
    return;
  }
  const bool holds = lane() < k;
  const int64_t code = holds ? code_at(answer, row, n_subclasses, best.index()) - answer.codebook : 0;
  const R value = value_of<R>(best.key()), largest = value_of<R>(__shfl_sync(kFullMask, best.key(), 0));
  // Not of inf - inf.
  const bool weighted = answer.weighting == Weighting::probability && value != largest;
  const R weight = weighted ? exp_of(value - largest) : R{1};
  const int n_bits = static_cast<int>(8 * answer.n_bytes);
  for (int begin = 0; begin < n_bits; begin += kWarp) {
    const int bit = begin + lane();
    R sum = 0;
    bool first = false;
    for (int rank = 0; rank < k; ++rank) {
      const int64_t of_rank = __shfl_sync(kFullMask, static_cast<long long>(code), rank);
      const R of_one = __shfl_sync(kFullMask, weight, rank);
      const bool one = bit < n_bits && (answer.codebook[of_rank + bit / 8] >> (bit % 8) & 1);
      if (rank == 0) first = one;
      sum += one ? of_one : -of_one;
    }
    const unsigned ones = __ballot_sync(kFullMask, sum > 0 || (sum == 0 && first));
    if (lane() < 4 && begin / 8 + lane() < answer.n_bytes) {
      answer.codes[row * answer.n_bytes + begin / 8 + lane()] = static_cast<uint8_t>(ones >> (8 * lane()));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kFewWarps * kWarp, 4) few_kernel(const T* __restrict__ all_logits, int64_t n,
                                                                   int64_t n_subclasses, int warps_a_row, Answer answer) {
  using R = Real<T>;
  auto* places = dynamic_shared<Place<R>>();  // [kFewWarps, kMostBest]
  const int part = warp() % warps_a_row;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kFewWarps / warps_a_row) + warp() / warps_a_row;
  BestFew<R> best(static_cast<int>(answer.k));
  if (row < n) add_row(all_logits + row * n_subclasses, static_cast<int>(n_subclasses), part, warps_a_row, &best);
  if (warps_a_row > 1) {
    if (lane() < answer.k) places[warp() * kMostBest + lane()] = {best.key(), best.index()};
    __syncthreads();
    for (int other = 1; part == 0 && other < warps_a_row; ++other) {
      const bool offers = lane() < answer.k;
      const Place<R> place = offers ? places[(warp() + other) * kMostBest + lane()] : Place<R>{};
      best.take(offers, place.key, place.index);
    }
  }
  if (row < n && part == 0) write_few(answer, row, n_subclasses, best);
}

// ---- any k ----

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
  int64_t* sums;           // [8 * n_bytes]
  int64_t* listed;         // [kThreads]
  int64_t* weights;        // [kThreads]: of the listed
  R* scratch;              // [kWarps]
  uint32_t* digit_counts;  // [kDigits]
  int32_t* warp_counts;    // [2, kWarps]

  static size_t bytes(int64_t n_bytes) {
    return kWarps * (sizeof(First<Key<R>>) + sizeof(R) + 2 * sizeof(int32_t)) + 2 * kThreads * sizeof(int64_t) +
           static_cast<size_t>(8 * n_bytes) * sizeof(int64_t) + kDigits * sizeof(uint32_t);
  }
  __device__ __forceinline__ explicit Shared(int64_t n_bytes) {
    firsts = dynamic_shared<First<Key<R>>>();
    listed = reinterpret_cast<int64_t*>(firsts + kWarps);
    weights = listed + kThreads;
    sums = weights + kThreads;
    scratch = reinterpret_cast<R*>(sums + 8 * n_bytes);
    digit_counts = reinterpret_cast<uint32_t*>(scratch + kWarps);
    warp_counts = reinterpret_cast<int32_t*>(digit_counts + kDigits);
  }
};

// A thread owns the same bits in all additions, so that none has to wait for another.
__device__ __forceinline__ void add_code(const uint8_t* code, int64_t n_bytes, int64_t weight, int64_t* sums) {
  for (int bit = static_cast<int>(threadIdx.x); bit < 8 * n_bytes; bit += kThreads) {
    sums[bit] += code[bit / 8] >> (bit % 8) & 1 ? weight : -weight;
  }
}

// How a logit is weighed: as 1, or by probability as an integer.
template <class R>
struct Weigh {
  R top, scale;  // scale 0: as 1
  __device__ __forceinline__ int64_t operator()(R logit) const {
    if (scale == 0) return 1;
    const double weight = static_cast<double>(logit == top ? R{1} : exp_of(logit - top)) * static_cast<double>(scale);
    return weight > 0 ? static_cast<int64_t>(weight + 0.5) : 0;  // 0 for NaN
  }
};

// By probability, with the sum of all weights below 2^61.
template <class T>
__device__ __forceinline__ Weigh<Real<T>> weigh_row(const T* logits, int64_t n, Real<T> top, Real<T>* scratch) {
  using R = Real<T>;
  R sum = 0;
  for (int64_t j = threadIdx.x; j < n; j += kThreads) {
    const R logit = to_real(logits[j]);
    sum += larger_of(logit == top ? R{1} : exp_of(logit - top), R{0});  // NaN is passed over
  }
  sum = block_reduce(sum, Sum{}, scratch);
  return {top, scale_of(sum < 1 ? R{1} : sum, 61)};
}

// The codes of the k best sub-classes; or their columns.
template <class T>
__device__ __forceinline__ void add_codes(const T* logits, int64_t row, int64_t n_subclasses, const Answer& answer,
                                          const Weigh<Real<T>>& weigh, const Shared<Real<T>>& shared) {
  using R = Real<T>;
  int64_t n_listed = 0;
  int64_t n_equal = 0;  // of the k-th key, still to be listed
  bool all_equal = false;
  const Key<R> kth = kth_key<R, WholeBlock>(logits, n_subclasses, answer.k, shared.digit_counts, &n_equal, &all_equal);
  for (int64_t tile = 0; tile < n_subclasses; tile += kThreads) {
    const int64_t j = tile + threadIdx.x;
    const Key<R> key = j < n_subclasses ? key_of<R>(to_real(logits[j])) : Key<R>{0};
    const bool above = j < n_subclasses && key > kth, equal = j < n_subclasses && key == kth;
    // Equal keys are listed in order of index while some are left: count them before this thread, in warps, then in lanes.
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
    if (above || (equal && equal_before < n_equal)) {
      shared.listed[above_before + taken_before] = j;
      if (!answer.top) shared.weights[above_before + taken_before] = weigh(to_real(logits[j]));
    }
    __syncthreads();
    const int64_t taken = equal_here < n_equal ? equal_here : n_equal;
    n_equal -= taken;
    if (answer.top) {
      for (int64_t i = threadIdx.x; i < above_here + taken; i += kThreads) {
        answer.top[row * answer.k + n_listed + i] = shared.listed[i];
      }
      n_listed += above_here + taken;
    } else {
      for (int64_t i = 0; i < above_here + taken; ++i) {
        add_code(code_at(answer, row, n_subclasses, shared.listed[i]), answer.n_bytes, shared.weights[i],
                 shared.sums);
      }
    }
    __syncthreads();  // the list is read
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 6) codes_kernel(const T* __restrict__ all_logits, int64_t n_subclasses,
                                                            Answer answer) {
  using R = Real<T>;
  const int64_t row = blockIdx.x, n_bytes = answer.n_bytes;
  const Shared<R> shared(n_bytes);
  const T* logits = all_logits + row * n_subclasses;
  if (answer.top) {
    add_codes(logits, row, n_subclasses, answer, Weigh<R>{0, 0}, shared);
    return;
  }
  uint8_t* code = answer.codes + row * n_bytes;

  First<Key<R>> first{0, n_subclasses - 1};
  for (int64_t j = threadIdx.x; j < n_subclasses; j += kThreads) {
    first = MergeFirst{}(first, {key_of<R>(to_real(logits[j])), j});
  }
  first = block_reduce(first, MergeFirst{}, shared.firsts);
  const uint8_t* first_code = code_at(answer, row, n_subclasses, first.index);
  for (int64_t bit = threadIdx.x; bit < 8 * n_bytes; bit += kThreads) shared.sums[bit] = 0;
  Weigh<R> weigh{0, 0};
  if (answer.weighting == Weighting::probability) {
    weigh = weigh_row(logits, n_subclasses, to_real(logits[first.index]), shared.scratch);
  }
  add_codes(logits, row, n_subclasses, answer, weigh, shared);
  // A ballot of 32 bits is four bytes of the code; n_bits is a multiple of 8, so a warp's last ballot may be short.
  const int n_bits = static_cast<int>(8 * n_bytes);
  for (int begin = warp() * kWarp; begin < n_bits; begin += kThreads) {
    const int bit = begin + lane();
    const int64_t sum = bit < n_bits ? shared.sums[bit] : 0;
    const bool one = bit < n_bits && (sum > 0 || (sum == 0 && (first_code[bit / 8] >> (bit % 8) & 1)));
    const unsigned ones = __ballot_sync(kFullMask, one);
    if (lane() < 4 && begin / 8 + lane() < n_bytes) code[begin / 8 + lane()] = static_cast<uint8_t>(ones >> (8 * lane()));
  }
}

// Warps a row of k <= 8: so many that 32 a multiprocessor are busy, but none with less than a thousand logits.
int warps_for(int64_t n, int64_t n_subclasses) {
  int warps = 1;
  while (warps < kFewWarps && n * warps < 32 * multiprocessors() && n_subclasses > 2048 * warps) warps *= 2;
  return warps;
}

int answer_rows(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const Answer& answer, void* stream) {
  if (n == 0) return 0;
  return with_floats(dtype, logits, [&](auto* typed) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
    const bool many = answer.k > kMostBest;
    if (many && answer.weighting == Weighting::probability && !answer.subclasses && n_subclasses <= kMostWeighed &&
        has_bit_products()) {
      return launch_weighted(typed, n, n_subclasses, answer.codebook, answer.n_bytes, answer.k, answer.codes, stream);
    }
    if (many || n_subclasses >= int64_t{1} << 31) {
      return launch(codes_kernel<T>, grid_of(n), dim3(kThreads), Shared<Real<T>>::bytes(answer.n_bytes), stream, typed,
                    n_subclasses, answer);
    }
    const int warps = warps_for(n, n_subclasses);
    return launch(few_kernel<T>, grid_of(divide_up(n, kFewWarps / warps)), dim3(kFewWarps * kWarp),
                  kFewWarps * kMostBest * sizeof(Place<Real<T>>), stream, typed, n, n_subclasses, warps, answer);
  });
}

}  // namespace

int codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                      int64_t n_bytes, int64_t k, Weighting weighting, const int64_t* subclasses, uint8_t* codes,
                      void* stream) {
  const Answer answer{codebook, n_bytes, k, weighting, subclasses, codes, nullptr};
  return answer_rows(logits, dtype, n, n_subclasses, answer, stream);
}

int top_subclasses(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, int64_t k, int64_t* top, void* stream) {
  const Answer answer{nullptr, 0, k, Weighting::mean, nullptr, nullptr, top};
  return answer_rows(logits, dtype, n, n_subclasses, answer, stream);
}

}  // namespace dshc::cuda
