// After the walk that collects (collect.h): a query's answer from the keys that were kept.
//
// `seen` says how many keys lie at each value, hence the value of the last answer. The keys up to it are the k best and
// the rest of the last tie; they are gathered into shared memory, sorted as (value, index) by a bitonic network and written.
// Where the tie is too large for that, the index below which enough of it lies is found byte by byte from the top (a radix
// selection; keys are unique, so it ends). One block per query. Least possible: each key read once (a tie that large: once more
// a byte), 12 bytes written an answer. A sort of all keys would read them several times; there are about k log(n / sample).
#include "collect.h"
#include "warp.h"

namespace dshc::cuda {
namespace {

constexpr int kDigits = 256;
constexpr int kFewThreads = 512, kManyThreads = 1024;  // to sort few keys, or many
constexpr uint64_t kNoKey = ~uint64_t{0};

struct Selection {
  uint64_t limit;   // keys below it are answers
  int64_t n_taken;  // how many those are
};

// By the first warp, all lanes of which get the result: the values up to the one that holds the n-th key. `seen` may lie in
// shared memory.
__device__ Selection select_value(const CollectPlan& plan, const unsigned* seen, int64_t n, int64_t* before_last) {
  int64_t before = 0;
  for (int first = 0; first < plan.n_values; first += kWarp) {
    const int value = first + lane();
    const int64_t count = value < plan.n_values ? seen[value] : 0;
    const int64_t below = before + warp_sum_below(count);
    const unsigned enough = __ballot_sync(kFullMask, below + count >= n);
    if (enough != 0) {
      const int last = __ffs(static_cast<int>(enough)) - 1;
      *before_last = __shfl_sync(kFullMask, static_cast<long long>(below), last);
      const int64_t taken = __shfl_sync(kFullMask, static_cast<long long>(below + count), last);
      return {static_cast<uint64_t>(first + last + 1) << kValueShift, taken};
    }
    before += warp_reduce(count, Sum{});
  }
  *before_last = 0;
  return {0, 0};
}

// Narrows a selection of too many keys, all of one value beyond `before` others, to one that fits, digit by digit of the index.
template <int kThreads>
__device__ void narrow(const uint64_t* keys, int64_t n_keys, int64_t n, int64_t before, int most,
                       unsigned* digits /* [kDigits] */, Selection* selection /* in shared memory */) {
  uint64_t low = selection->limit - (uint64_t{1} << kValueShift);
  __syncthreads();  // everybody has read the limit
  for (int shift = kValueShift - 8; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kThreads) digits[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n_keys; i += kThreads) {
      const uint64_t beyond = keys[i] - low;
      if (keys[i] >= low && beyond >> shift < kDigits) atomicAdd(digits + (beyond >> shift), 1u);
    }
    __syncthreads();
    int digit = 0;
    while (before + digits[digit] < n) before += digits[digit++];  // the n-th key is among them
    low += static_cast<uint64_t>(digit) << shift;
    const int64_t taken = before + digits[digit];
    __syncthreads();  // the digits are read
    if (taken <= most) {
      if (threadIdx.x == 0) *selection = {low + (uint64_t{1} << shift), taken};
      break;
    }
  }
  __syncthreads();
}

// Ascending; n is a power of two. A bitonic network: keys up to 32 apart are compared inside the 64 of one warp.
template <int kThreads>
__device__ void sort_keys(uint64_t* keys, int n) {
  for (int run_bits = 1; 1 << run_bits <= n; ++run_bits) {
    for (int bits = run_bits - 1; bits >= 0; --bits) {
      const int apart = 1 << bits;
      for (int i = static_cast<int>(threadIdx.x); i < n / 2; i += kThreads) {
        const int a = i >> bits << (bits + 1) | (i & (apart - 1)), b = a + apart;
        const uint64_t left = keys[a], right = keys[b];
        if ((left > right) == ((a >> run_bits & 1) == 0)) {
          keys[a] = right;
          keys[b] = left;
        }
      }
      const int next = bits > 0 ? bits - 1 : run_bits;
      if (bits > 5 || next > 5 || (bits == 0 && 1 << run_bits == n)) __syncthreads();
      else __syncwarp();
    }
  }
}

// Of radius search keys and indices are the same memory.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) order_kernel(Pairs pairs, CollectPlan plan, Collected from,
                                                              int32_t* __restrict__ counts, int64_t* indices,
                                                              int32_t* __restrict__ needed) {
  auto* sorted = dynamic_shared<uint64_t>();                               // [sort_keys]
  auto* selection = reinterpret_cast<Selection*>(sorted + plan.sort_keys);
  auto* before_last = reinterpret_cast<int64_t*>(selection + 1);
  auto* n_gathered = reinterpret_cast<unsigned*>(before_last + 1);         // [2]
  auto* digits = n_gathered + 2;                                           // [kDigits]
  const int64_t query = blockIdx.x;
  const bool radius = from.offsets != nullptr;
  auto* seen = reinterpret_cast<unsigned*>(sorted);                        // [n_values], until keys come
  if (!radius) {  // on its way while `found` is
    for (int value = static_cast<int>(threadIdx.x); value < plan.n_values; value += kThreads) {
      seen[value] = from.seen[query * plan.n_values + value];
    }
  }
  const auto found = static_cast<int64_t>(from.found[query]);
  const int64_t first_place = radius ? from.offsets[query] : query * plan.k;
  const int64_t places = radius ? from.offsets[query + 1] - first_place : plan.k;
  const bool whole = radius ? places <= plan.sort_keys : found <= plan.capacity;
  const int64_t n = !whole ? 0 : (found < places ? found : places);
  if (threadIdx.x == 0) needed[query] = whole ? 0 : 1;
  // Where items are missing, and where the two passes will write what is there.
  if (!radius && n < plan.k && (whole || pairs.allowed)) {
    const int32_t missing = pairs.score == Score::hamming ? INT32_MAX : -1;
    for (int64_t i = n + threadIdx.x; i < plan.k; i += kThreads) {
      counts[first_place + i] = missing;
      indices[first_place + i] = -1;
    }
  }
  if (n == 0) return;  // the whole block
  const uint64_t* keys = from.keys + (radius ? first_place : query * plan.capacity);
  const int64_t n_keys = radius ? n : found;
  if (threadIdx.x == 0) {
    *n_gathered = 0;
    if (radius) *selection = {kNoKey, n};
  }
  __syncthreads();
  if (!radius && warp() == 0) {
    int64_t before = 0;
    const Selection all = select_value(plan, seen, n, &before);
    if (lane() == 0) {
      *selection = all;
      *before_last = before;
    }
  }
  __syncthreads();
  if (selection->n_taken > plan.sort_keys) {
    narrow<kThreads>(keys, n_keys, n, *before_last, plan.sort_keys, digits, selection);
  }
  const uint64_t limit = selection->limit;
  const int n_taken = static_cast<int>(selection->n_taken);
  int size = 2;
  while (size < n_taken) size *= 2;
  for (int i = n_taken + static_cast<int>(threadIdx.x); i < size; i += kThreads) sorted[i] = kNoKey;
  constexpr int kAtOnce = 4;  // loads
  for (int64_t i = threadIdx.x; i < n_keys; i += kAtOnce * kThreads) {
    uint64_t several[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) several[j] = i + j * kThreads < n_keys ? keys[i + j * kThreads] : kNoKey;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (several[j] < limit) sorted[atomicAdd(n_gathered, 1u)] = several[j];
    }
  }
  __syncthreads();
  sort_keys<kThreads>(sorted, size);
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const int value = static_cast<int>(sorted[i] >> kValueShift);
    counts[first_place + i] = pairs.score == Score::hamming ? value : 8 * pairs.n_bytes - value;
    indices[first_place + i] = static_cast<int64_t>(sorted[i] & ((uint64_t{1} << kValueShift) - 1));
  }
}

}  // namespace

int order_collected(const Pairs& pairs, const CollectPlan& plan, const Collected& from, int32_t* counts, int64_t* indices,
                    int32_t* needed, Stream stream) {
  const size_t shared = static_cast<size_t>(plan.sort_keys) * sizeof(uint64_t) + sizeof(Selection) + sizeof(int64_t) +
                        (2 + kDigits) * sizeof(unsigned);
  const bool many = plan.sort_keys > kFewSortKeys;
  return launch(many ? order_kernel<kManyThreads> : order_kernel<kFewThreads>, grid_of(plan.n_query),
                dim3(many ? kManyThreads : kFewThreads), shared, stream, pairs, plan, from, counts, indices, needed);
}

}  // namespace dshc::cuda
