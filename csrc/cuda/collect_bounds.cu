// Before the walk that collects (collect.h): a query's first bound, and what begins at zero.
//
// k items of a sample have value v or better, so nothing above v is among the k best of all: bound v + 1. Of the prefix
// likewise, and v itself for the items after it.
//
// Two ways. A sample of up to 32,768 items is counted by the block that finds the bounds, one launch for everything before the
// walk: a block has one query, or eight where there are many, their counters in shared memory, added to by atomics. A larger
// sample (of more than some 1,000 answers) is counted by the kernels of histograms (query_columns.cu); a warp per query reads them. Prefix sums over at
// most 1,025 values either way. Reading: a sector of 32 bytes an item of the sample, from the second-level cache for all
// blocks but the first that come; with a query a block that would be the floor of a batch, hence eight.
#include "collect_walk.h"

namespace dshc::cuda {
namespace {

constexpr int kWarpThreads = 256, kCountThreads = 1024;
constexpr int kManyQueries = 8;        // of a block that counts
constexpr int64_t kQueriesApart = 64;  // up to so many queries have a block each
constexpr int64_t kMostCounted = 32768;

// By a whole warp.
template <class Count>
__device__ __forceinline__ void set_bounds(const Count* sample, const Count* prefix, const CollectPlan& plan,
                                           const Collected& to, int64_t query) {
  const int of_sample = value_of_kth(plan, [&](int value) { return sample[value]; });
  const int of_prefix = value_of_kth(plan, [&](int value) { return prefix[value]; });
  if (lane() != 0) return;
  const int both = of_sample < of_prefix ? of_sample : of_prefix;
  const int bound = both < plan.n_values ? both + 1 : plan.n_values;
  to.prefix_bounds[query] = bound;
  to.bounds[query] = of_prefix < bound ? of_prefix : bound;
}

__global__ void __launch_bounds__(kWarpThreads) bound_kernel(const int64_t* __restrict__ sample,
                                                             const int64_t* __restrict__ prefix, CollectPlan plan,
                                                             Collected to) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * (kWarpThreads / kWarp) + warp();
  if (query >= plan.n_query) return;  // whole warps
  set_bounds(sample + query * plan.n_values, prefix + query * plan.n_values, plan, to, query);
}

// Counts n items, `step` apart from item 0 on, in counts [kQueries, n_values].
template <int kWords, int kQueries>
__device__ __forceinline__ void count_items(const Pairs& pairs, const CollectPlan& plan, int64_t first_query, int n_here,
                                            const Code<kWords>* queries, bool whole, int n, int64_t step, unsigned* counts) {
  constexpr int kAtOnce = kWords > 8 ? 1 : (kWords > 4 ? 2 : 4);  // loads
  const bool overlap = pairs.score == Score::overlap;
  for (int first = static_cast<int>(threadIdx.x); first < n; first += kAtOnce * kCountThreads) {
    Code<kWords> codes[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kCountThreads;
      if (at < n) codes[i] = load_code<kWords>(pairs.database + at * step * pairs.n_bytes, pairs.n_bytes, whole);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kCountThreads;
      if (at >= n) break;
      const int64_t item = at * step;
#pragma unroll 1
      for (int q = 0; q < n_here; ++q) {
        const uint8_t* allowed = pairs.allowed ? pairs.allowed + (first_query + q) * pairs.allowed_stride : nullptr;
        if (allowed && !(allowed[item / 8] >> (item % 8) & 1)) continue;
        int count = 0;
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
          const uint32_t a = codes[i].words[w], b = queries[q].words[w];
          count += __popc(overlap ? a & b : a ^ b);
        }
        atomicAdd(counts + q * plan.n_values + (overlap ? 8 * pairs.n_bytes - count : count), 1u);
      }
    }
  }
}

template <int kWords, int kQueries>
__global__ void __launch_bounds__(kCountThreads) counted_bounds_kernel(Pairs pairs, CollectPlan plan, Collected to,
                                                                       int n_sample, int64_t step, int n_prefix) {
  auto* queries = dynamic_shared<Code<kWords>>();                     // [kQueries]
  auto* sample = reinterpret_cast<unsigned*>(queries + kQueries);     // [kQueries, n_values]
  auto* prefix = sample + kQueries * plan.n_values;                   // likewise
  const int64_t first_query = static_cast<int64_t>(blockIdx.x) * kQueries;
  const int n_here = plan.n_query - first_query < kQueries ? static_cast<int>(plan.n_query - first_query) : kQueries;
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 2 * kQueries * plan.n_values; i += kCountThreads) sample[i] = 0;
  if (thread < n_here) {
    queries[thread] = load_code<kWords>(pairs.queries + (first_query + thread) * pairs.n_bytes, pairs.n_bytes, false);
    to.found[first_query + thread] = 0;
  }
  for (int i = thread; i < n_here * plan.n_values; i += kCountThreads) to.seen[first_query * plan.n_values + i] = 0;
  if (blockIdx.x == 0) {
    for (int i = thread; i < plan.n_groups; i += kCountThreads) to.tickets[i] = 0;
  }
  __syncthreads();
  count_items<kWords, kQueries>(pairs, plan, first_query, n_here, queries, whole, n_sample, step, sample);
  count_items<kWords, kQueries>(pairs, plan, first_query, n_here, queries, whole, n_prefix, 1, prefix);
  __syncthreads();
  for (int q = warp(); q < n_here; q += kCountThreads / kWarp) {
    set_bounds(sample + q * plan.n_values, prefix + q * plan.n_values, plan, to, first_query + q);
  }
}

}  // namespace

bool counts_with_bounds(int64_t n_sample, int64_t n_prefix) { return n_sample <= kMostCounted && n_prefix <= kMostCounted; }

int counted_bounds(const Pairs& pairs, const CollectPlan& plan, const Collected& to, int64_t n_sample, int64_t step,
                   int64_t n_prefix, Stream stream) {
  const int padded = pairs.n_bytes <= kMostCodeBytes ? padded_words(pairs.n_bytes) : (pairs.n_bytes <= 64 ? 16 : 32);
  static_assert(kMostLongBytes == 32 * 4, "the longest are padded to that");
  return with_words<32, 1>(padded, [&](auto words) {
    constexpr int kWords = decltype(words)::value;
    const auto launch_with = [&](auto* kernel, int queries) {
      const size_t shared = queries * (sizeof(Code<kWords>) + 2 * sizeof(unsigned) * static_cast<size_t>(plan.n_values));
      return launch(kernel, grid_of(divide_up(plan.n_query, queries)), dim3(kCountThreads), shared, stream, pairs, plan, to,
                    static_cast<int>(n_sample), step, static_cast<int>(n_prefix));
    };
    if (plan.n_query <= kQueriesApart) return launch_with(counted_bounds_kernel<kWords, 1>, 1);
    return launch_with(counted_bounds_kernel<kWords, kManyQueries>, kManyQueries);
  });
}

int first_bounds(const int64_t* sample, const int64_t* prefix, const CollectPlan& plan, const Collected& to, Stream stream) {
  return launch(bound_kernel, grid_of(divide_up(plan.n_query, kWarpThreads / kWarp)), dim3(kWarpThreads), 0, stream, sample,
                prefix, plan, to);
}

}  // namespace dshc::cuda
