// The k <= 8 largest values of a row, found by one or more warps in one reading; equal values: the lower index first; NaN
// last.
//
// A warp keeps a sorted list across its lanes: lane r has the r-th best. It reads 48 bytes per lane at a time (16 bytes a
// load), the next 48 on the way meanwhile, and passes over them where none reaches the list's last; values of 16 bits are
// compared in pairs for that. Otherwise it looks at 16 bytes after 16 bytes and there at value after value, and every one that
// belongs in the list is put there by shuffles, some forty instructions. Of a long row some k ln(n / k) do. The first values
// would nearly all be such, so they get a bound of their own: the k-th largest of the lanes' largest values, which k values
// reach and hardly more.
// Why not a list a thread: lists of 32 lanes fill with 32 k values before they help, and lanes insert at different times.
#pragma once
#include <type_traits>

#include "vectors.h"
#include "warp.h"

namespace dshc::cuda {

constexpr int kMostBest = 8;

__device__ __forceinline__ uint32_t bits_of(float value) { return __float_as_uint(value); }
__device__ __forceinline__ uint64_t bits_of(double value) { return static_cast<uint64_t>(__double_as_longlong(value)); }
__device__ __forceinline__ float value_of_bits(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ double value_of_bits(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

template <class R> using Key = std::conditional_t<std::is_same_v<R, double>, uint64_t, uint32_t>;
template <class R> constexpr Key<R> kSignBit = Key<R>{1} << (8 * sizeof(R) - 1);

// Rises with the value; equal for -0 and 0; 0 for NaN, which is below the key of -inf.
template <class R>
__device__ __forceinline__ Key<R> key_of(R value) {
  if (value != value) return 0;
  const Key<R> bits = bits_of(value == R{0} ? R{0} : value);
  return bits & kSignBit<R> ? static_cast<Key<R>>(~bits) : bits | kSignBit<R>;
}

// The value of a key; NaN for 0.
template <class R>
__device__ __forceinline__ R value_of(Key<R> key) {
  return value_of_bits(key & kSignBit<R> ? static_cast<Key<R>>(key ^ kSignBit<R>) : static_cast<Key<R>>(~key));
}

template <class R>
class BestFew {
 public:
  __device__ __forceinline__ explicit BestFew(int k) : k_(k), key_(0), index_(kNone), last_key_(0), last_index_(kNone) {}

  __device__ __forceinline__ int size() const { return k_; }
  // Of this lane's place; places from k on hold nothing of meaning.
  __device__ __forceinline__ Key<R> key() const { return key_; }
  __device__ __forceinline__ int index() const { return index_; }
  // NaN while there is room for anything.
  __device__ __forceinline__ R last() const { return value_of<R>(last_key_); }

  // Takes what belongs in the list of the values that lanes `offer`.
  __device__ __forceinline__ void take(bool offer, Key<R> key, int index) {
    for (;;) {
      const unsigned lanes = __ballot_sync(kFullMask, offer && better(key, index, last_key_, last_index_));
      if (lanes == 0) return;
      const int from = __ffs(static_cast<int>(lanes)) - 1;
      insert(__shfl_sync(kFullMask, key, from), __shfl_sync(kFullMask, index, from));
      if (lane() == from) offer = false;
    }
  }

 private:
  static constexpr int kNone = 0x7FFFFFFF;

  __device__ __forceinline__ static bool better(Key<R> key, int index, Key<R> than_key, int than_index) {
    return key > than_key || (key == than_key && index < than_index);
  }

  __device__ __forceinline__ void insert(Key<R> key, int index) {
    const bool stays = lane() < k_ && better(key_, index_, key, index);
    const int place = __popc(__ballot_sync(kFullMask, stays));
    const Key<R> above_key = __shfl_up_sync(kFullMask, key_, 1);
    const int above_index = __shfl_up_sync(kFullMask, index_, 1);
    if (lane() >= place) {
      key_ = lane() == place ? key : above_key;
      index_ = lane() == place ? index : above_index;
    }
    last_key_ = __shfl_sync(kFullMask, key_, k_ - 1);
    last_index_ = __shfl_sync(kFullMask, index_, k_ - 1);
  }

  int k_;
  Key<R> key_;
  int index_;
  Key<R> last_key_;
  int last_index_;
};

// A bound that k of the values reach, whose largest in this lane is `largest`: the k-th largest of these, by sorting them
// (bitonic, 15 exchanges). -inf where a lane has but NaNs.
template <class R>
__device__ __forceinline__ R bound_of_lanes(R largest, int k) {
  if (largest != largest) largest = -static_cast<R>(INFINITY);
#pragma unroll
  for (int run = 2; run <= kWarp; run *= 2) {
#pragma unroll
    for (int offset = run / 2; offset > 0; offset /= 2) {
      const R other = shuffle_xor(largest, offset);
      const bool keeps_larger = ((lane() & offset) == 0) == ((lane() & run) == 0);
      largest = keeps_larger == (other > largest) ? other : largest;
    }
  }
  return __shfl_sync(kFullMask, largest, k - 1);
}

// 16 bytes of values, kept as the words that were loaded: of 16-bit values on their own the compiler would make registers of
// their own, and wait for the load to do so.
template <class T>
__device__ __forceinline__ Values<T> values_of(const uint4& words) {
  Values<T> values;
  memcpy(&values, &words, sizeof words);
  return values;
}

// The largest of the first kCount vectors' values; NaN is passed over.
template <class T, int kCount, int kVectors>
__device__ __forceinline__ Real<T> largest_of(const uint4 (&vectors)[kVectors]) {
  if constexpr (sizeof(T) == 2) {
    uint32_t largest = 0;
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      const uint32_t of_vector = larger_pair<T>(larger_pair<T>(vectors[u].x, vectors[u].y),
                                                larger_pair<T>(vectors[u].z, vectors[u].w));
      largest = u == 0 ? of_vector : larger_pair<T>(largest, of_vector);
    }
    T pair[2];
    memcpy(pair, &largest, sizeof pair);
    return larger_of(to_real(pair[0]), to_real(pair[1]));
  } else {
    Real<T> largest = to_real(values_of<T>(vectors[0]).at[0]);
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
#pragma unroll
      for (int i = 0; i < kPerVector<T>; ++i) largest = larger_of(largest, to_real(values_of<T>(vectors[u]).at[i]));
    }
    return largest;
  }
}

// Adds the share of this warp, number `part` of `n_parts`, of row[0, n), n < 2^31.
template <class T>
__device__ __forceinline__ void add_row(const T* row, int n, int part, int n_parts, BestFew<Real<T>>* best) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>, kTogether = 3, kBatch = kTogether * kWarp;
  const R lowest = -static_cast<R>(INFINITY);
  const int before = static_cast<int>(values_before_boundary(row, n));
  const int n_vectors = (n - before) / kPer, after = before + n_vectors * kPer;
  R bound = lowest;
  const Values<T> none = vector_of(from_real<T>(lowest));
  const auto load = [&](int first, uint4(&vectors)[kTogether]) {
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int at = first + u * kWarp + lane();
      memcpy(&vectors[u], &none, sizeof none);
      if (at < n_vectors) vectors[u] = *reinterpret_cast<const uint4*>(row + before + at * kPer);
    }
  };
  uint4 vectors[kTogether], next[kTogether];
  load(part * kBatch, next);
  for (int first = part * kBatch; first < n_vectors; first += n_parts * kBatch) {
#pragma unroll
    for (int u = 0; u < kTogether; ++u) vectors[u] = next[u];
    load(first + n_parts * kBatch < n_vectors ? first + n_parts * kBatch : n_vectors, next);
    const R largest = largest_of<T, kTogether>(vectors);
    if (first == part * kBatch) bound = bound_of_lanes(largest, best->size());
    // A NaN is below nothing. It is looked at while there is room for it, and `largest` does not tell of it.
    const bool room = best->last() != best->last();
    bound = larger_of(bound, best->last());
    if (!__any_sync(kFullMask, room || !(largest < bound))) continue;
    // Not unrolled: an insertion is long, and vectors where none is are passed over.
#pragma unroll 1
    for (int at = first + lane(); at < first + kBatch; at += kWarp) {
      if (__any_sync(kFullMask, room || !(largest_of<T, 1>(vectors) < bound))) {
#pragma unroll
        for (int i = 0; i < kPer; ++i) {
          const R value = to_real(values_of<T>(vectors[0]).at[i]);
          const bool offer = at < n_vectors && !(value < bound);
          if (!__any_sync(kFullMask, offer)) continue;
          best->take(offer, key_of(value), before + at * kPer + i);
          bound = larger_of(bound, best->last());
        }
      }
#pragma unroll
      for (int u = 1; u < kTogether; ++u) vectors[u - 1] = vectors[u];
    }
  }
  if (part != 0) return;
  const int edges[2] = {lane() < before ? lane() : n, after + lane()};
#pragma unroll
  for (const int j : edges) best->take(j < n, key_of(j < n ? to_real(row[j]) : R{0}), j);
}

}  // namespace dshc::cuda
