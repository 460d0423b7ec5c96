// The metrics of core/retrieval_metric.h, in float64: from histograms (ties expected, best, worst), or with ties by index.
//
// From histograms: the counting pass of value_counts.h into a workspace [queries, n_values], twice. nDCG of multi-hot labels has
// a second pass, which counts relevant items by rank value and by the labels that they share, [queries, n_values, n_labels], by
// global atomics: relevant items are few against all pairs, and a table in shared memory would not fit. Then one warp per query,
// one tie per lane, and the closed forms of common/retrieval_metric.h, the same code as on the CPU.
//
// By index: the places of relevant_places.h. Each shard writes its sum, or the best reciprocal rank, and a last kernel merges
// shards in order, so that the answer is formed in one fixed order for one way of cutting; it agrees with the CPU to 1e-12.
// Least possible: one pass of scoring from histograms, two by index and for shared labels.
// Workspace: 16 bytes per query and value; for shared labels 8 per query, value and label, in chunks of queries that take 256
// MiB at most where one query takes less; by index 16 per query, value and shard.
#include "../core/retrieval_metric.h"

#include "../common/retrieval_metric.h"
#include "relevant_places.h"

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

// The ideal DCG of a query, on all lanes; `shared` are its own counts, [n_values, n_labels].
__device__ double ideal_of(const int64_t* shared, int32_t n_values, int32_t n_labels, int64_t k, Gains gains) {
  double sum = 0.0;
  int64_t at = 0;
  for (int s = n_labels; s >= 1 && at < k; --s) {
    int64_t count = 0;
    for (int value = lane(); value < n_values; value += kWarp) count += shared[static_cast<int64_t>(value) * n_labels + s - 1];
    sum += run_of_gain(warp_reduce(count, Sum{}), gain_of(s, gains), k, &at);
  }
  return sum;
}

__global__ void __launch_bounds__(kFinishThreads) from_histogram_kernel(Histograms from, int64_t n_query, int32_t n_values,
                                                                        MetricTask task, double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kFinishQueries + warp();
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
    if (p == 0 || items_before >= k || (of_first && relevant_before > 0)) continue;
    const int64_t m = n < k - items_before ? n : k - items_before;
    if (of_first) {
      sum += from_first_tie(task.metric, task.ties, n, p, items_before, m);
    } else if (task.metric == Metric::ndcg) {
      const auto counts = [&](int64_t s) {
        return shared ? shared[static_cast<int64_t>(value) * from.n_labels + s - 1] : p;
      };
      sum += dcg_of_tie(counts, shared ? from.n_labels : 1, n, p, items_before, k, task.ties, task.gains);
    } else {
      sum += from_tie(task.metric, task.ties, n, p, items_before, relevant_before, m);
    }
  }
  sum = warp_reduce(sum, Sum{});
  if (task.metric == Metric::ndcg) {
    int64_t at = 0;
    sum = at_most_one(sum / (shared ? ideal_of(shared, n_values, from.n_labels, k, task.gains)
                                    : run_of_gain(all.relevant, gain_of(1, task.gains), k, &at)));
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
  return launch(from_histogram_kernel, grid_of(divide_up(n_query, kFinishQueries)), dim3(kFinishThreads), 0, stream, tables,
                n_query, plan.n_values, task, result + plan.first_query);
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

__global__ void __launch_bounds__(kFinishThreads) merge_kernel(ByIndex by, int64_t n_query, int32_t n_values, int64_t n_shards,
                                                               MetricTask task, double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  if (query >= n_query) return;
  const QueryTotals all = totals_in(by, query, n_values);
  if (all.relevant == 0) {
    result[query] = NAN;
    return;
  }
  double value = 0.0;
  for (int64_t shard = 0; shard < n_shards; ++shard) {
    const double part = by.parts[query * n_shards + shard];
    value = is_of_first(task.metric) ? Max{}(value, part) : value + part;
  }
  if (task.metric == Metric::ndcg) {
    const auto totals = [&](int64_t s) { return by.totals ? by.totals[query * by.n_labels + s - 1] : all.relevant; };
    const int64_t k = cut_of(task, all.items, all.relevant);
    value = at_most_one(value / ideal_dcg(totals, by.totals ? by.n_labels : 1, k, task.gains));
  } else if (!is_of_first(task.metric)) {
    value = from_sum(task.metric, value, task.k, all.items, all.relevant);
  }
  result[query] = value;
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
  return launch(merge_kernel, grid_of(divide_up(n_query, kFinishThreads)), dim3(kFinishThreads), 0, stream, by, n_query,
                plan.n_values, plan.n_shards, task, result + plan.first_query);
}

}  // namespace

int64_t retrieval_metric_workspace_bytes(const Pairs& pairs, const MetricTask& task, int32_t n_labels) {
  const RowPlan plan = plan_metric(pairs, task, n_labels);
  const int64_t n_query = launch_queries(pairs, plan);
  return 8 * (task.ties == Ties::index ? by_index_entries(n_query, plan, task, n_labels)
                                       : histogram_entries(n_query, plan, task, n_labels));
}

int retrieval_metric(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, int32_t n_labels, double* result,
                     void* workspace, void* stream) {
  return for_each_chunk(pairs, plan_metric(pairs, task, n_labels), [&](const RowPlan& plan) {
    if (task.ties == Ties::index) return by_index(pairs, relevance, plan, task, n_labels, result, workspace, stream);
    return from_histograms(pairs, relevance, plan, task, n_labels, result, workspace, stream);
  });
}

}  // namespace dshc::cuda
