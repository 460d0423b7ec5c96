// AP@k of each query, in float64: from its two histograms alone (ties expected, best, worst), or with ties by index.
//
// From histograms: the counting pass of value_counts.h into a workspace [queries, n_values], twice, then the closed forms of
// common/average_precision.h, the same code as on the CPU: O(n_values) and no sort. One warp per query, one tie per lane: what lies
// before a tie is a prefix sum, so that its term needs no other. Double precision is what the kernel waits for, hundreds of
// operations a term, of which a multiprocessor does 64 a cycle, idle lanes counted: ties are collected in shared memory until 32
// of them have relevant items inside the cut. Of a tie that a cut parts, whose term is a sum over all numbers of relevant items
// that it may let in, the lanes take a number each.
// One thread per query would go through all ties one after the other, with a few warps on a multiprocessor and reads that no two
// lanes share.
//
// By index: a relevant item adds hits / rank, where rank is its place in the order of (rank value, index) and hits its
// place among the relevant items. Both come from counts by shard, placed as in ordered_items.cu, and counters in shared
// memory; each shard writes its sum and its number of hits inside the cut, and a warp a query adds the shards. So the
// sum is formed in one fixed order for one way of cutting; AP agrees with the CPU to 1e-12, not to the bit. Many queries:
// index_columns.cu.
// Least possible: one pass of scoring from histograms, two by index (a rank needs the whole histogram); both are met.
// Workspace: 16 bytes per query and value, by index per query, value and shard; queries go in chunks, which bounds it.
#include "../core/average_precision.h"

#include "../common/average_precision.h"
#include "index_columns.h"
#include "relevant_places.h"
#include "value_counts.h"

namespace dshc::cuda {
namespace {

constexpr int kHistogramThreads = 128, kHistogramQueries = kHistogramThreads / kWarp;
constexpr int kHeldTies = 2 * kWarp;  // a warp

// A tie as tie_term() takes it, but for what is inside the cut.
template <class Count>
struct Tie {
  Count n, p, items_before, relevant_before;
};

__device__ __forceinline__ int32_t from_lane(int32_t value, int lane) { return __shfl_sync(kFullMask, value, lane); }
__device__ __forceinline__ int64_t from_lane(int64_t value, int lane) {
  return __shfl_sync(kFullMask, static_cast<long long>(value), lane);
}

__device__ __forceinline__ int64_t sum_below(int64_t value) { return warp_sum_below(value); }
__device__ __forceinline__ int32_t sum_below(int32_t value) {
  int32_t sum = value;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int32_t other = __shfl_up_sync(kFullMask, sum, offset);
    if (lane() >= offset) sum += other;
  }
  return sum - value;
}

// As expected_retrieved_at_cut(): the lanes take consecutive numbers of relevant items, outwards from the mode, and probabilities
// are products of ratios over the lanes. The same in all lanes, and formed in one order whatever the device.
__device__ __forceinline__ double warp_expected_at_cut(double S, int64_t n, int64_t p, int64_t N, int64_t P, int64_t m) {
  const RetrievedAtCut cut(S, n, p, N, P, m);
  double total = lane() == 0 ? 1.0 : 0.0, expected = lane() == 0 ? cut.value(cut.mode) : 0.0;
  for (int side = 0; side < 2; ++side) {
    const int64_t steps = side == 0 ? cut.high - cut.mode : cut.mode - cut.low;
    double weight = 1.0;  // of the last lane's number before
    for (int64_t first = 0; first < steps && weight > cut.kNegligible; first += kWarp) {
      const int64_t step = first + lane() + 1, x = side == 0 ? cut.mode + step : cut.mode - step;
      double ratio = 0.0;  // Pr(x) over that of the number one nearer to the mode
      if (step <= steps) ratio = side == 0 ? cut.risen(x - 1) / cut.fallen(x - 1) : cut.fallen(x) / cut.risen(x);
      const double mine = weight * warp_product(ratio);
      if (step <= steps) {
        total += mine;
        expected += mine * cut.value(x);
      }
      weight = __shfl_sync(kFullMask, mine, kWarp - 1);
    }
  }
  return warp_reduce(expected, Sum{}) / warp_reduce(total, Sum{});
}

// Count holds all items of a query.
template <class Count>
__global__ void __launch_bounds__(kHistogramThreads, 6)
    from_histogram_kernel(const int64_t* __restrict__ items, const int64_t* __restrict__ relevant, int64_t n_query,
                          int32_t n_values, int64_t k, Ties ties, Denominator denominator, double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kHistogramQueries + warp();
  if (query >= n_query) return;  // whole warps
  Tie<Count>* held = dynamic_shared<Tie<Count>>() + warp() * kHeldTies;
  const int64_t *my_items = items + query * n_values, *my_relevant = relevant + query * n_values;
  double sum = 0.0;         // of precisions at relevant items, of this lane's ties
  int64_t taken = 0;        // relevant items of this lane's ties
  Count N = 0, P = 0;       // items and relevant items of the rounds before
  int n_held = 0;           // less than 32 between two rounds
  Tie<Count> parted{};      // the last tie that counts, where it needs an expectation
  bool parts = false;
  const auto add = [&](const Tie<Count>& tie) {
    const int64_t rest = k - tie.items_before, m = tie.n < rest ? tie.n : rest;
    const TieTerm term = tie_term(tie.n, tie.p, tie.items_before, tie.relevant_before, m, ties);
    sum += term.sum;
    taken += term.taken;
  };
  for (int first = 0; first < n_values; first += kWarp) {
    const bool there = first + lane() < n_values;
    Tie<Count> tie{};
    if (there) tie.n = static_cast<Count>(my_items[first + lane()]), tie.p = static_cast<Count>(my_relevant[first + lane()]);
    tie.items_before = N + sum_below(tie.n);
    tie.relevant_before = P + sum_below(tie.p);
    N = from_lane(tie.items_before + tie.n, kWarp - 1);
    P = from_lane(tie.relevant_before + tie.p, kWarp - 1);
    const bool counts = tie.p > 0 && tie.items_before < k;
    const int64_t rest = k - tie.items_before;
    const bool at_cut = counts && needs_expectation(tie.n, tie.n < rest ? tie.n : rest, ties, denominator);
    const unsigned cut = __ballot_sync(kFullMask, at_cut);
    if (cut) {
      const int from = __ffs(static_cast<int>(cut)) - 1;
      parts = true;
      parted = {from_lane(tie.n, from), from_lane(tie.p, from), from_lane(tie.items_before, from),
                from_lane(tie.relevant_before, from)};
    }
    const unsigned counting = __ballot_sync(kFullMask, counts && !at_cut);
    if (counts && !at_cut) held[n_held + __popc(counting & lanes_below())] = tie;
    n_held += __popc(counting);
    __syncwarp();
    const bool last = first + kWarp >= n_values;
    while (n_held >= kWarp || (last && n_held > 0)) {  // in one place: a term is some thousand instructions
      if (lane() < n_held) add(held[lane()]);
      n_held = n_held > kWarp ? n_held - kWarp : 0;
      if (lane() < n_held) tie = held[kWarp + lane()];
      __syncwarp();
      if (lane() < n_held) held[lane()] = tie;
      __syncwarp();
    }
  }
  sum = warp_reduce(sum, Sum{});
  if (parts) {
    const int64_t m = k - parted.items_before;
    sum = warp_expected_at_cut(sum, parted.n, parted.p, parted.items_before, parted.relevant_before, m);
    if (lane() == 0) result[query] = sum;
    return;
  }
  taken = warp_reduce(taken, Sum{});
  if (lane() == 0) result[query] = P == 0 ? NAN : divide_precisions(sum, taken, P, k < N ? k : N, denominator);
}

// What the pass by index reads and writes, for the queries of one launch.
struct ByIndex {
  PlaceTables places;
  double* sums;   // [n_query, n_shards]
  int64_t* hits;  // [n_query, n_shards]
};

ByIndex carve(void* workspace, int64_t n_query, const RowPlan& plan) {
  ByIndex by{};
  auto* at = static_cast<int64_t*>(workspace);
  by.places = carve_places(at, n_query, plan);
  by.hits = at + place_entries(n_query, plan);
  by.sums = reinterpret_cast<double*>(by.hits + n_query * plan.n_shards);
  return by;
}

template <class Word, int kQueries>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) by_index_kernel(Pairs pairs, Relevance relevance, RowPlan plan,
                                                                  ByIndex by, int64_t k) {
  double sum = 0.0;
  int64_t hits = 0;
  walk_places<Word, kQueries>(pairs, relevance, plan, by.places, [&](int64_t before, int64_t hits_before, int64_t) {
    if (before >= k) return;
    sum += static_cast<double>(hits_before + 1) / static_cast<double>(before + 1);
    ++hits;
  });
  const int64_t query = block_first_query(plan) + warp(), in_launch = query - plan.first_query;
  if (warp() >= kQueries || query >= plan.end_query) return;  // whole warps
  sum = warp_reduce(sum, Sum{});
  hits = warp_reduce(hits, Sum{});
  if (lane() == 0) {
    by.sums[in_launch * plan.n_shards + block_shard(plan)] = sum;
    by.hits[in_launch * plan.n_shards + block_shard(plan)] = hits;
  }
}

// Where the sums and hits of a query's shards lie, and its totals.
struct ShardSums {
  const double* sums;
  const int64_t* hits;
  int64_t n_shards, query_step, shard_step;
  const int64_t *items, *relevant;  // that may be answered
  int64_t total_step;
};

// A warp adds the shards of one query, always in the same order.
__global__ void __launch_bounds__(kHistogramThreads) add_shards_kernel(ShardSums from, int64_t n_query, int64_t k,
                                                                       Denominator denominator, double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kHistogramQueries + warp();
  if (query >= n_query) return;  // whole warps
  double sum = 0.0;
  int64_t hits = 0;
  for (int64_t shard = lane(); shard < from.n_shards; shard += kWarp) {
    sum += from.sums[query * from.query_step + shard * from.shard_step];
    hits += from.hits[query * from.query_step + shard * from.shard_step];
  }
  sum = warp_reduce(sum, Sum{});
  hits = warp_reduce(hits, Sum{});
  if (lane() != 0) return;
  const int64_t items = from.items[query * from.total_step], relevant = from.relevant[query * from.total_step];
  result[query] = relevant == 0 ? NAN : divide_precisions(sum, hits, relevant, k < items ? k : items, denominator);
}

int add_shards(const ShardSums& from, const RowPlan& plan, int64_t k, Denominator denominator, double* result, Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query;
  return launch(add_shards_kernel, grid_of(divide_up(n_query, kHistogramQueries)), dim3(kHistogramThreads), 0, stream, from,
                n_query, k, denominator, result + plan.first_query);
}

int from_histograms(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, int64_t k, Ties ties,
                    Denominator denominator, double* result, void* workspace, Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query, entries = n_query * plan.n_values;
  auto* items = static_cast<int64_t*>(workspace);
  int64_t* relevant = items + entries;
  if (const int status = fill_zero(items, 2 * entries * static_cast<int64_t>(sizeof(int64_t)), stream)) return status;
  const ValueCounts counts{items, relevant, false, plan.first_query, plan.n_values, false};
  if (const int status = count_values(pairs, relevance, plan, counts, stream)) return status;
  const auto finish = [&](auto* kernel, size_t tie_bytes) {
    return launch(kernel, grid_of(divide_up(n_query, kHistogramQueries)), dim3(kHistogramThreads),
                  tie_bytes * kHeldTies * kHistogramQueries, stream, items, relevant, n_query, plan.n_values, k, ties,
                  denominator, result + plan.first_query);
  };
  if (pairs.n_db <= INT32_MAX) return finish(from_histogram_kernel<int32_t>, sizeof(Tie<int32_t>));
  return finish(from_histogram_kernel<int64_t>, sizeof(Tie<int64_t>));
}

int by_index(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, int64_t k, Denominator denominator,
             double* result, void* workspace, Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query;
  const ByIndex by = carve(workspace, n_query, plan);
  if (const int status = place_relevant(pairs, relevance, plan, by.places, stream)) return status;
  const int status = with_word_and_group(pairs, plan, [&](auto word, auto group) {
    return launch(by_index_kernel<decltype(word), decltype(group)::value>, grid_of(plan.n_blocks()), dim3(kRowThreads),
                  row_shared_bytes(pairs, plan, 2), stream, pairs, relevance, plan, by, k);
  });
  if (status) return status;
  const ShardSums sums{by.sums, by.hits, plan.n_shards, plan.n_shards, 1, by.places.item_starts + plan.n_values,
                       by.places.relevant_starts + plan.n_values, plan.n_values + 1};
  return add_shards(sums, plan, k, denominator, result, stream);
}

int by_index_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, int64_t k,
                        Denominator denominator, double* result, void* workspace, Stream stream) {
  OrderedParts parts{};
  const OrderedTask task{OrderedSum::precisions, k, false};
  if (const int status = order_in_columns(pairs, relevance, plan, task, workspace, &parts, stream)) return status;
  const int64_t n_query = plan.end_query - plan.first_query;
  return add_shards({parts.sums, parts.hits, parts.n_shards, 1, n_query, parts.items, parts.relevant, 1}, plan, k, denominator,
                    result, stream);
}

}  // namespace

int64_t average_precision_workspace_bytes(const Pairs& pairs, Ties ties) {
  if (ties == Ties::index && fits_index_columns(pairs)) return index_columns_workspace_bytes(pairs);
  const RowPlan plan = plan_rows(pairs);
  const int64_t n_query = launch_queries(pairs, plan);
  int64_t entries = 2 * n_query * plan.n_values;
  if (ties == Ties::index) entries = place_entries(n_query, plan) + 2 * n_query * plan.n_shards;
  return static_cast<int64_t>(sizeof(int64_t)) * entries;
}

int average_precision(const Pairs& pairs, const Relevance& relevance, int64_t k, Ties ties, Denominator denominator,
                      double* result, void* workspace, void* stream) {
  const bool in_columns = ties == Ties::index && fits_index_columns(pairs);
  return for_each_chunk(pairs, plan_rows(pairs), [&](const RowPlan& plan) {
    if (in_columns) {
      return by_index_in_columns(pairs, relevance, plan, k, denominator, result, workspace, stream);
    }
    if (ties == Ties::index) return by_index(pairs, relevance, plan, k, denominator, result, workspace, stream);
    return from_histograms(pairs, relevance, plan, k, ties, denominator, result, workspace, stream);
  });
}

}  // namespace dshc::cuda
