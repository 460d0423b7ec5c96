#include "../core/retrieval_metric.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "../common/retrieval_metric.h"
#include "call/blocks.h"
#include "call/call.h"
#include "counts/query_histograms.h"
#include "counts/relevant_ranks.h"
#include "repeats/allowed_items.h"
#include "repeats/distinct_queries.h"

namespace dshc::cpu {
namespace {

// Ties in the order of the database: the sum over the relevant items of a query, and where the first of them is.
struct RankedSum {
  int64_t k = 0, first = std::numeric_limits<int64_t>::max();
  double sum = 0.0;
  std::vector<int64_t> totals;  // for nDCG: [most + 1] relevant items by the labels that they share

  void add(const MetricTask& task, RelevantPlaces& places, const RelevantNotes& notes) {
    switch (task.metric) {
      case Metric::ndcg:
        return places.settle(notes, [&](int64_t rank, int64_t, int64_t shared) {
          ++totals[static_cast<size_t>(shared)];
          if (rank <= k) sum += gain_of(shared, task.gains) * discount(rank);
        });
      case Metric::average_precision_at_r:
        return places.settle(notes, [&](int64_t rank, int64_t hits, int64_t) {
          if (rank <= k) sum += static_cast<double>(hits) / static_cast<double>(rank);
        });
      case Metric::reciprocal_rank:
      case Metric::hit_rate:
        return places.settle(notes, [&](int64_t rank, int64_t, int64_t) { first = std::min(first, rank); });
      case Metric::precision:
      case Metric::recall:
      case Metric::r_precision: return places.settle(notes, [&](int64_t rank, int64_t, int64_t) { sum += rank <= k; });
    }
  }

  double value(const MetricTask& task, const RelevantPlaces& places) const {
    if (places.all_relevant() == 0) return std::numeric_limits<double>::quiet_NaN();
    if (task.metric == Metric::hit_rate) return first <= k ? 1.0 : 0.0;
    if (task.metric == Metric::reciprocal_rank) return first <= k ? 1.0 / static_cast<double>(first) : 0.0;
    if (task.metric != Metric::ndcg) return from_sum(task.metric, sum, task.k, places.all_items(), places.all_relevant());
    const auto total = [&](int64_t s) { return totals[static_cast<size_t>(s)]; };
    return at_most_one(sum / ideal_dcg(total, static_cast<int64_t>(totals.size()) - 1, k, task.gains));
  }
};

int64_t most_shared(const Relevance& relevance, int64_t query) {
  if (!relevance.query_words) return 1;
  return label_count(relevance.query_words + query * relevance.n_words, relevance.n_words);
}

void by_index(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, double* result, int n_threads) {
  const bool graded = task.metric == Metric::ndcg && relevance.query_words;
  const Tasks tasks = cut_scan(pairs, walk_state_bytes(pairs), false, n_threads);
  for_each_group(pairs, tasks, [&](int64_t begin, int64_t end) {
    std::vector<RankedSum> sums(static_cast<size_t>(end - begin));
    const auto mine = [&](int64_t q) -> RankedSum& { return sums[static_cast<size_t>(q - begin)]; };
    walk_relevant(
        pairs, relevance, begin, end, graded,
        [&](int64_t q, const RelevantPlaces& places) {
          mine(q).k = cut_of(task, places.all_items(), places.all_relevant());
          if (task.metric == Metric::ndcg) mine(q).totals.assign(static_cast<size_t>(most_shared(relevance, q)) + 1, 0);
        },
        [&](int64_t q, RelevantPlaces& places, const RelevantNotes& notes) { mine(q).add(task, places, notes); },
        [&](int64_t q, const RelevantPlaces& places) { result[q] = mine(q).value(task, places); });
  });
}

// nDCG of multi-hot labels: relevant items are counted by rank value and by the labels that they share.
void graded(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, double* result, int n_threads) {
  const int32_t n_values = n_rank_values(pairs), n_words = relevance.n_words;
  const Marks marks = histogram_marks(pairs);
  constexpr int64_t kUsualLabels = 16;  // of a query; sizes groups alone
  const Tasks tasks = cut_scan(pairs, (8 * kTables + 8 * kUsualLabels) * n_values, false, n_threads);
  for_each_group(pairs, tasks, [&](int64_t begin, int64_t end) {
    HistogramTables tables(end - begin, n_values);
    std::vector<std::vector<int64_t>> shared(static_cast<size_t>(end - begin));  // [n_values, most], from one label on
    std::vector<int64_t> most(static_cast<size_t>(end - begin));
    for (int64_t q = begin; q < end; ++q) {
      const size_t i = static_cast<size_t>(q - begin);
      most[i] = most_shared(relevance, q);
      shared[i].assign(static_cast<size_t>(n_values * most[i]), 0);
    }
    std::vector<uint32_t> positions(static_cast<size_t>(block_items(4)));
    scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db, [&](int64_t q, int64_t first, int64_t n, const uint16_t* row) {
      const size_t mine = static_cast<size_t>(q - begin);
      tables.add(q - begin, row, n);
      const int64_t found = level().rank->select_between(row, n, marks.relevant_offset, marks.not_allowed, positions.data());
      for (int64_t i = 0; i < found; ++i) {
        const uint32_t at = positions[static_cast<size_t>(i)];
        const int32_t n_shared = shared_labels(relevance.query_words + q * n_words,
                                               relevance.database_words + (first + at) * n_words, n_words);
        ++shared[mine][static_cast<size_t>((row[at] - marks.relevant_offset) * most[mine] + n_shared - 1)];
      }
    });
    for (int64_t q = begin; q < end; ++q) {
      const int64_t* counts = shared[static_cast<size_t>(q - begin)].data();
      const int64_t width = most[static_cast<size_t>(q - begin)];
      std::vector<int64_t> totals(static_cast<size_t>(width), 0);
      for (int64_t i = 0; i < n_values * width; ++i) totals[static_cast<size_t>(i % width)] += counts[i];
      result[q] = ndcg_from_histogram([&](int64_t l) { return tables.items(q - begin, static_cast<int32_t>(l)); },
                                      [&](int64_t l) { return tables.relevant(q - begin, static_cast<int32_t>(l)); },
                                      [&](int64_t l, int64_t s) { return counts[l * width + s - 1]; },
                                      [&](int64_t s) { return totals[static_cast<size_t>(s - 1)]; }, width, n_values, task);
    }
  });
}

void from_histograms(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, double* result, int n_threads) {
  const int32_t n_values = n_rank_values(pairs);
  query_histograms(pairs, relevance, n_threads, [&](int64_t q, const int64_t* items, const int64_t* relevant) {
    const auto all = [&](int64_t l) { return items[l]; };
    const auto hits = [&](int64_t l) { return relevant[l]; };
    if (task.metric != Metric::ndcg) {
      result[q] = metric_from_histogram(all, hits, n_values, task);
      return;
    }
    int64_t total = 0;
    for (int32_t l = 0; l < n_values; ++l) total += relevant[l];
    result[q] = ndcg_from_histogram(all, hits, [&](int64_t l, int64_t) { return relevant[l]; },
                                    [&](int64_t) { return total; }, 1, n_values, task);
  });
}

void of_distinct_queries(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, double* result,
                         int n_threads) {
  if (task.ties == Ties::index) return by_index(pairs, relevance, task, result, n_threads);
  if (task.metric == Metric::ndcg && relevance.query_words) return graded(pairs, relevance, task, result, n_threads);
  from_histograms(pairs, relevance, task, result, n_threads);
}

}  // namespace

void retrieval_metric(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, double* result, int n_threads) {
  const Call call;
  const AllowedItems allowed(pairs, relevance);
  const DistinctQueries queries(allowed.pairs(), allowed.relevance(), n_threads);
  if (queries.all_distinct()) return of_distinct_queries(queries.pairs(), queries.relevance(), task, result, n_threads);
  std::vector<double> distinct(static_cast<size_t>(queries.pairs().n_query));
  of_distinct_queries(queries.pairs(), queries.relevance(), task, distinct.data(), n_threads);
  for (int64_t q = 0; q < pairs.n_query; ++q) result[q] = distinct[static_cast<size_t>(queries.distinct(q))];
}

}  // namespace dshc::cpu
