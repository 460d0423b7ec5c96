// The metrics of core/retrieval_metric.h, in float64: from histograms (ties expected, best, worst), or with ties by index.
//
// From histograms: the counting pass of value_counts.h into a workspace [queries, n_values], twice. nDCG of multi-hot labels has
// a second pass, which counts relevant items by rank value and by the labels that they share, [queries, n_values, n_labels], by
// global atomics: relevant items are few against all pairs, and a table in shared memory would not fit. Then one warp per query,
// one tie per lane, and the closed forms of common/retrieval_metric.h, the same code as on the CPU. What belongs to a query and
// not to a tie, the ideal DCG and the tie that holds the first relevant item, the lanes work out together.
//
// By index: many queries by index_columns.cu, but for nDCG of multi-hot labels; else by the places of relevant_places.h. Each
// shard writes its sum, or the best reciprocal rank, and a warp a query merges them, so that the answer is formed in one fixed
// order for one way of cutting; it agrees with the CPU to 1e-12.
// Least possible: one pass of scoring from histograms, two by index and for shared labels.
// Workspace: 16 bytes per query and value; for shared labels 8 per query, value and label, in chunks of queries that take 256
// MiB at most where one query takes less; by index 16 per query, value and shard.
#include "../core/retrieval_metric.h"

#include "index_columns.h"
#include "relevant_places.h"
#include "warp_metrics.h"

namespace dshc::cuda {
namespace {

constexpr int kFinishThreads = 128, kFinishQueries = kFinishThreads / kWarp;
constexpr int64_t kMostSharedBytes = 256 << 20;

struct Max {
  __device__ __forceinline__ double operator()(double a, double b) const { return a > b ? a : b; }
};

// nDCG is graded where items can share more than one label.
bool is_graded(const MetricTask& task, int32_t n_labels) { return task.metric == Metric::ndcg && n_labels > 1; }

RowPlan plan_metric(const Pairs& pairs, const MetricTask& task, int32_t n_labels) {
  RowPlan plan = plan_rows(pairs);
  if (!is_graded(task, n_labels)) return plan;
  const int64_t a_query = 8 * static_cast<int64_t>(n_labels) * plan.n_values;
  const int64_t most = kMostSharedBytes / a_query > 1 ? kMostSharedBytes / a_query : 1;
  if (plan.chunk > most) plan.chunk = most;
  return plan;
}

__device__ __forceinline__ int labels_shared(const Relevance& relevance, int64_t query, int64_t item) {
  if (!relevance.database_words) return 1;
  int shared = 0;
  for (int w = 0; w < relevance.n_words; ++w) {
    const uint64_t both = relevance.query_words[query * relevance.n_words + w] & relevance.database_words[item * relevance.n_words + w];
    shared += __popcll(both);
  }
  return shared;
}

// ---- from histograms ----

// What the kernels below read and write, for the queries of one launch.
struct Histograms {
  int64_t *items, *relevant;  // [n_query, n_values]
  int64_t* shared;            // [n_query, n_values, n_labels], from one shared label on; or null
  int32_t n_labels;
};

Histograms carve_histograms(void* workspace, int64_t n_query, const RowPlan& plan, const MetricTask& task, int32_t n_labels) {
  auto* at = static_cast<int64_t*>(workspace);
  const int64_t table = n_query * plan.n_values;
  return {at, at + table, is_graded(task, n_labels) ? at + 2 * table : nullptr, n_labels};
}

int64_t histogram_entries(int64_t n_query, const RowPlan& plan, const MetricTask& task, int32_t n_labels) {
  return n_query * plan.n_values * (2 + (is_graded(task, n_labels) ? n_labels : 0));
}

template <class Word, int kQueries>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) shared_kernel(Pairs pairs, Relevance relevance, RowPlan plan,
                                                                         Histograms to) {
  walk_rows<Word, kQueries, false>(pairs, relevance, plan, [&](int q, uint16_t entry, int64_t item) {
    if (entry == kNoItem || !(entry & kRelevantMark)) return;
    const int64_t query = block_first_query(plan) + q;
    const int shared = labels_shared(relevance, query, item);
    if (shared == 0) return;
    const int64_t row = (query - plan.first_query) * plan.n_values + (entry & kValueBits);
    atomicAdd(reinterpret_cast<unsigned long long*>(to.shared + row * to.n_labels + shared - 1), 1ull);
  });
}

__global__ void __launch_bounds__(kFinishThreads) from_histogram_kernel(Histograms from, int64_t n_query, int32_t n_values,
                                                                        MetricTask task, double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kFinishQueries + warp();
  DiscountTable discounts{};
  if (task.metric == Metric::ndcg) discounts = fill_discounts();
  if (query >= n_query) return;  // whole warps
  const int64_t *items = from.items + query * n_values, *relevant = from.relevant + query * n_values;
  const int64_t* shared = from.shared ? from.shared + query * n_values * from.n_labels : nullptr;
  QueryTotals all;
  for (int value = lane(); value < n_values; value += kWarp) {
    all.items += items[value];
    all.relevant += relevant[value];
  }
  all.items = warp_reduce(all.items, Sum{});
  all.relevant = warp_reduce(all.relevant, Sum{});
  if (all.relevant == 0) {
    if (lane() == 0) result[query] = NAN;
    return;
  }
  const int64_t k = cut_of(task, all.items, all.relevant);
  const bool of_first = is_of_first(task.metric);
  double sum = 0.0;         // of this lane's ties
  int64_t N = 0, P = 0;     // items and relevant items of the rounds before
  for (int first = 0; first < n_values && N < k && P < all.relevant; first += kWarp) {
    const int value = first + lane();
    const bool there = value < n_values;
    const int64_t n = there ? items[value] : 0, p = there ? relevant[value] : 0;
    const int64_t items_before = N + warp_sum_below(n), relevant_before = P + warp_sum_below(p);
    N = __shfl_sync(kFullMask, static_cast<long long>(items_before + n), kWarp - 1);
    P = __shfl_sync(kFullMask, static_cast<long long>(relevant_before + p), kWarp - 1);
    const bool counts_in = p > 0 && items_before < k;
    const int64_t m = n < k - items_before ? n : k - items_before;
    if (of_first) {
      const unsigned found = __ballot_sync(kFullMask, counts_in);
      if (found == 0) continue;
      const int source = __popc((found & (0u - found)) - 1);  // the first tie with relevant items
      const auto of_source = [&](int64_t x) {
        return static_cast<int64_t>(__shfl_sync(kFullMask, static_cast<long long>(x), source));
      };
      const int64_t its_n = of_source(n), its_p = of_source(p), its_N = of_source(items_before), its_m = of_source(m);
      sum = warp_from_first_tie(task, its_n, its_p, its_N, its_m);
      break;
    }
    if (!counts_in) continue;
    if (task.metric == Metric::ndcg) {
      const auto counts = [&](int64_t s) {
        return shared ? shared[static_cast<int64_t>(value) * from.n_labels + s - 1] : p;
      };
      sum += dcg_of_tie(counts, shared ? from.n_labels : 1, n, p, items_before, k, task.ties, task.gains,
                        discounts);
    } else {
      sum += from_tie(task.metric, task.ties, n, p, items_before, relevant_before, m);
    }
  }
  if (!of_first) sum = warp_reduce(sum, Sum{});
  if (task.metric == Metric::ndcg) {
    const auto totals = [&](int s) {
      if (!shared) return all.relevant;
      int64_t count = 0;
      for (int value = lane(); value < n_values; value += kWarp) {
        count += shared[static_cast<int64_t>(value) * from.n_labels + s - 1];
      }
      return warp_reduce(count, Sum{});
    };
    sum = at_most_one(sum / warp_ideal_dcg(totals, shared ? from.n_labels : 1, k, task.gains, discounts));
  } else if (!of_first) {
    sum = from_sum(task.metric, sum, task.k, all.items, all.relevant);
  }
  if (lane() == 0) result[query] = sum;
}

int from_histograms(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const MetricTask& task,
                    int32_t n_labels, double* result, void* workspace, Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query;
  const Histograms tables = carve_histograms(workspace, n_query, plan, task, n_labels);
  const int64_t bytes = 8 * histogram_entries(n_query, plan, task, n_labels);
  if (const int status = fill_zero(tables.items, bytes, stream)) return status;
  const ValueCounts counts{tables.items, tables.relevant, false, plan.first_query, plan.n_values, false};
  if (const int status = count_values(pairs, relevance, plan, counts, stream)) return status;
  if (tables.shared) {
    const int status = with_word_and_group(pairs, plan, [&](auto word, auto group) {
      return launch(shared_kernel<decltype(word), decltype(group)::value>, grid_of(plan.n_blocks()), dim3(kRowThreads),
                    row_shared_bytes(pairs, plan, 0), stream, pairs, relevance, plan, tables);
    });
    if (status) return status;
  }
  return launch(from_histogram_kernel, grid_of(divide_up(n_query, kFinishQueries)), dim3(kFinishThreads),
                kDiscountBytes, stream, tables, n_query, plan.n_values, task, result + plan.first_query);
}

// ---- by index ----

struct ByIndex {
  PlaceTables places;
  double* parts;    // [n_query, n_shards]: sums, or the best reciprocal rank
  int64_t* totals;  // [n_query, n_labels]: relevant items by the labels that they share; or null
  int32_t n_labels;
};

ByIndex carve_by_index(void* workspace, int64_t n_query, const RowPlan& plan, const MetricTask& task, int32_t n_labels) {
  auto* at = static_cast<int64_t*>(workspace);
  int64_t* parts = at + place_entries(n_query, plan);
  return {carve_places(at, n_query, plan), reinterpret_cast<double*>(parts),
          is_graded(task, n_labels) ? parts + n_query * plan.n_shards : nullptr, n_labels};
}

int64_t by_index_entries(int64_t n_query, const RowPlan& plan, const MetricTask& task, int32_t n_labels) {
  return place_entries(n_query, plan) + n_query * (plan.n_shards + (is_graded(task, n_labels) ? n_labels : 0));
}

__device__ __forceinline__ QueryTotals totals_in(const ByIndex& by, int64_t query, int32_t n_values) {
  const int64_t last = query * (n_values + 1) + n_values;
  return {by.places.item_starts[last], by.places.relevant_starts[last]};
}

template <class Word, int kQueries>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) by_index_kernel(Pairs pairs, Relevance relevance, RowPlan plan,
                                                                           ByIndex by, MetricTask task) {
  const int64_t query = block_first_query(plan) + warp(), in_launch = query - plan.first_query;
  const bool there = warp() < kQueries && query < plan.end_query;
  const bool of_first = is_of_first(task.metric);
  int64_t k = 0;
  if (there) {
    const QueryTotals all = totals_in(by, in_launch, plan.n_values);
    k = cut_of(task, all.items, all.relevant);
  }
  double part = 0.0;
  walk_places<Word, kQueries>(pairs, relevance, plan, by.places, [&](int64_t before, int64_t relevant_before, int64_t item) {
    if (task.metric == Metric::ndcg) {
      const int shared = labels_shared(relevance, query, item);
      if (by.totals) {
        atomicAdd(reinterpret_cast<unsigned long long*>(by.totals + in_launch * by.n_labels + shared - 1), 1ull);
      }
      if (before < k) part += gain_of(shared, task.gains) * discount(before + 1);
    } else if (before < k) {
      const double rank = static_cast<double>(before + 1);
      switch (task.metric) {
        case Metric::reciprocal_rank: part = Max{}(part, 1.0 / rank); break;
        case Metric::hit_rate: part = 1.0; break;
        case Metric::average_precision_at_r: part += static_cast<double>(relevant_before + 1) / rank; break;
        default: part += 1.0;
      }
    }
  });
  if (!there) return;  // whole warps
  part = of_first ? warp_reduce(part, Max{}) : warp_reduce(part, Sum{});
  if (lane() == 0) by.parts[in_launch * plan.n_shards + block_shard(plan)] = part;
}

// Where the parts of a query's shards lie, and its totals.
struct ShardParts {
  const double* parts;  // sums, or the best reciprocal rank
  int64_t n_shards, query_step, shard_step;
  const int64_t *items, *relevant;  // that may be answered
  int64_t total_step;
  const int64_t* totals;  // as in ByIndex
  int32_t n_labels;
};

// A warp merges the shards of one query, always in the same order.
__global__ void __launch_bounds__(kFinishThreads) merge_kernel(ShardParts from, int64_t n_query, MetricTask task,
                                                               double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kFinishQueries + warp();
  DiscountTable discounts{};
  if (task.metric == Metric::ndcg) discounts = fill_discounts();
  if (query >= n_query) return;  // whole warps
  const QueryTotals all{from.items[query * from.total_step], from.relevant[query * from.total_step]};
  const bool of_first = is_of_first(task.metric);
  double value = 0.0;
  for (int64_t shard = lane(); shard < from.n_shards; shard += kWarp) {
    const double part = from.parts[query * from.query_step + shard * from.shard_step];
    value = of_first ? Max{}(value, part) : value + part;
  }
  value = of_first ? warp_reduce(value, Max{}) : warp_reduce(value, Sum{});
  if (all.relevant == 0) {
    value = NAN;
  } else if (task.metric == Metric::ndcg) {
    const auto totals = [&](int s) { return from.totals ? from.totals[query * from.n_labels + s - 1] : all.relevant; };
    const int64_t k = cut_of(task, all.items, all.relevant);
    value = at_most_one(value / warp_ideal_dcg(totals, from.totals ? from.n_labels : 1, k, task.gains, discounts));
  } else if (task.metric == Metric::hit_rate) {
    value = value > 0.0 ? 1.0 : 0.0;
  } else if (!of_first) {
    value = from_sum(task.metric, value, task.k, all.items, all.relevant);
  }
  if (lane() == 0) result[query] = value;
}

int merge(const ShardParts& from, const RowPlan& plan, const MetricTask& task, double* result, Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query;
  return launch(merge_kernel, grid_of(divide_up(n_query, kFinishQueries)), dim3(kFinishThreads), kDiscountBytes, stream, from,
                n_query, task, result + plan.first_query);
}

int by_index(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const MetricTask& task, int32_t n_labels,
             double* result, void* workspace, Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query;
  const ByIndex by = carve_by_index(workspace, n_query, plan, task, n_labels);
  if (by.totals) {
    if (const int status = fill_zero(by.totals, 8 * n_query * n_labels, stream)) return status;
  }
  if (const int status = place_relevant(pairs, relevance, plan, by.places, stream)) return status;
  const int status = with_word_and_group(pairs, plan, [&](auto word, auto group) {
    return launch(by_index_kernel<decltype(word), decltype(group)::value>, grid_of(plan.n_blocks()), dim3(kRowThreads),
                  row_shared_bytes(pairs, plan, 2), stream, pairs, relevance, plan, by, task);
  });
  if (status) return status;
  const ShardParts parts{by.parts, plan.n_shards, plan.n_shards, 1, by.places.item_starts + plan.n_values,
                         by.places.relevant_starts + plan.n_values, plan.n_values + 1, by.totals, n_labels};
  return merge(parts, plan, task, result, stream);
}

bool in_columns(const Pairs& pairs, const MetricTask& task, int32_t n_labels) {
  return task.ties == Ties::index && !is_graded(task, n_labels) && fits_index_columns(pairs);
}

int by_index_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const MetricTask& task,
                        double* result, void* workspace, Stream stream) {
  OrderedTask ordered{OrderedSum::count, task.k == 0 ? pairs.n_db : task.k, is_at_r(task.metric)};
  if (is_of_first(task.metric)) ordered.what = OrderedSum::first;
  if (task.metric == Metric::ndcg) ordered.what = OrderedSum::discounts;
  if (task.metric == Metric::average_precision_at_r) ordered.what = OrderedSum::precisions;
  OrderedParts parts{};
  if (const int status = order_in_columns(pairs, relevance, plan, ordered, workspace, &parts, stream)) return status;
  const int64_t n_query = plan.end_query - plan.first_query;
  return merge({parts.sums, parts.n_shards, 1, n_query, parts.items, parts.relevant, 1, nullptr, 1}, plan, task, result, stream);
}

}  // namespace

int64_t retrieval_metric_workspace_bytes(const Pairs& pairs, const MetricTask& task, int32_t n_labels) {
  if (in_columns(pairs, task, n_labels)) return index_columns_workspace_bytes(pairs);
  const RowPlan plan = plan_metric(pairs, task, n_labels);
  const int64_t n_query = launch_queries(pairs, plan);
  return 8 * (task.ties == Ties::index ? by_index_entries(n_query, plan, task, n_labels)
                                       : histogram_entries(n_query, plan, task, n_labels));
}

int retrieval_metric(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, int32_t n_labels, double* result,
                     void* workspace, void* stream) {
  return for_each_chunk(pairs, plan_metric(pairs, task, n_labels), [&](const RowPlan& plan) {
    if (in_columns(pairs, task, n_labels)) {
      return by_index_in_columns(pairs, relevance, plan, task, result, workspace, stream);
    }
    if (task.ties == Ties::index) return by_index(pairs, relevance, plan, task, n_labels, result, workspace, stream);
    return from_histograms(pairs, relevance, plan, task, n_labels, result, workspace, stream);
  });
}

}  // namespace dshc::cuda
