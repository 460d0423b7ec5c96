// AP@k of each query, in float64: from its two histograms alone (ties expected, best, worst), or with ties by index.
//
// From histograms: the counting pass of value_counts.h into a workspace [queries, n_values], twice, then the closed forms of
// common/average_precision.h, the same code as on the CPU: O(n_values) and no sort. One warp per query, one tie per lane: what lies
// before a tie is a prefix sum, so that its term needs no other. One thread per query would go through hundreds of double-precision
// operations a tie one after the other, with a few warps on a multiprocessor and reads that no two lanes share.
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

__global__ void __launch_bounds__(kHistogramThreads, 6) from_histogram_kernel(const int64_t* __restrict__ items,
                                                                           const int64_t* __restrict__ relevant,
                                                                           int64_t n_query, int32_t n_values, int64_t k,
                                                                           Ties ties, Denominator denominator,
                                                                           double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kHistogramQueries + warp();
  if (query >= n_query) return;  // whole warps
  const int64_t *my_items = items + query * n_values, *my_relevant = relevant + query * n_values;
  int64_t all_items = 0, all_relevant = 0;
  for (int value = lane(); value < n_values; value += kWarp) {
    all_items += my_items[value];
    all_relevant += my_relevant[value];
  }
  all_items = warp_reduce(all_items, Sum{});
  all_relevant = warp_reduce(all_relevant, Sum{});
  if (k > all_items) k = all_items;
  double sum = 0.0;                // of precisions at relevant items, of this lane's ties
  int64_t taken = 0, N = 0, P = 0;  // relevant items of this lane's ties; items and relevant items of the rounds before
  for (int first = 0; first < n_values && N < k && P < all_relevant; first += kWarp) {
    const bool there = first + lane() < n_values;
    const int64_t n = there ? my_items[first + lane()] : 0, p = there ? my_relevant[first + lane()] : 0;
    const int64_t items_before = N + warp_sum_below(n), relevant_before = P + warp_sum_below(p);
    N = __shfl_sync(kFullMask, static_cast<long long>(items_before + n), kWarp - 1);
    P = __shfl_sync(kFullMask, static_cast<long long>(relevant_before + p), kWarp - 1);
    const bool counts = p > 0 && items_before < k;
    const int64_t m = n < k - items_before ? n : k - items_before;
    const bool at_cut = counts && needs_expectation(n, m, ties, denominator);  // the last tie that counts
    if (counts && !at_cut) {
      const TieTerm term = tie_term(n, p, items_before, relevant_before, m, ties);
      sum += term.sum;
      taken += term.taken;
    }
    if (!__any_sync(kFullMask, at_cut)) continue;
    sum = warp_reduce(sum, Sum{});
    if (at_cut) result[query] = expected_retrieved_at_cut(sum, n, p, items_before, relevant_before, m);
    return;
  }
  sum = warp_reduce(sum, Sum{});
  taken = warp_reduce(taken, Sum{});
  if (lane() == 0) result[query] = all_relevant == 0 ? NAN : divide_precisions(sum, taken, all_relevant, k, denominator);
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
  return launch(from_histogram_kernel, grid_of(divide_up(n_query, kHistogramQueries)), dim3(kHistogramThreads), 0, stream,
                items, relevant, n_query, plan.n_values, k, ties, denominator, result + plan.first_query);
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
