#include "../core/average_precision.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../common/average_precision.h"
#include "histogram.h"
#include "scan.h"
#include "threads.h"

namespace dshc::cpu {
namespace {

// Ties by index need each relevant item's rank: how many items have a smaller rank value (known from the histogram) plus
// how many of its own value came before it. A second pass in index order counts the latter. Only relevant items are looked
// up; the run of items between two of them is merely counted, so the pass keeps the histogram's pace.
class OrderedPass {
 public:
  OrderedPass(int64_t n_queries, int32_t n_values, int64_t k)
      : n_values_(n_values), k_(k), queries_(static_cast<size_t>(n_queries)) {
    for (Query& query : queries_) {
      query.seen.assign(static_cast<size_t>(kTables) * static_cast<size_t>(2 * n_values + 1), 0);
      query.rank.assign(static_cast<size_t>(n_values), 0);
      query.relevant_rank.assign(static_cast<size_t>(n_values), 0);
    }
  }

  void start(int64_t q, const HistogramTables& tables) {
    Query& query = queries_[static_cast<size_t>(q)];
    for (int32_t value = 0; value < n_values_; ++value) {
      query.rank[static_cast<size_t>(value)] = query.all_items;
      query.relevant_rank[static_cast<size_t>(value)] = query.all_relevant;
      query.all_items += tables.items(q, value);
      query.all_relevant += tables.relevant(q, value);
    }
  }

  // `relevant`: ascending positions of the n_relevant relevant items of the row.
  void add(int64_t q, const uint16_t* row, int64_t n, const uint32_t* relevant, int64_t n_relevant) {
    Query& query = queries_[static_cast<size_t>(q)];
    const int64_t n_slots = 2 * n_values_ + 1;
    if ((query.unflushed += n) > (int64_t{1} << 31)) flush(query, n);
    uint32_t *a = query.seen.data(), *b = a + n_slots;
    int64_t i = 0;
    for (int64_t r = 0; r < n_relevant; ++r) {
      const int64_t at = relevant[r];
      for (; i + 1 < at; i += 2) {
        ++a[row[i]];
        ++b[row[i + 1]];
      }
      if (i < at) ++a[row[i]];
      i = at + 1;
      const size_t value = static_cast<size_t>(row[at] - n_values_);
      // rank[] itself moves on with the relevant items, seen[] holds the others.
      const int64_t rank = ++query.rank[value] + a[value] + b[value];
      const int64_t hits = ++query.relevant_rank[value];
      if (rank > k_) continue;
      query.sum += static_cast<double>(hits) / static_cast<double>(rank);
      ++query.retrieved;
    }
    for (; i < n; ++i) ++a[row[i]];
  }

  double finish(int64_t q, Denominator denominator) const {
    const Query& query = queries_[static_cast<size_t>(q)];
    if (query.all_relevant == 0) return std::numeric_limits<double>::quiet_NaN();
    return divide_precisions(query.sum, query.retrieved, query.all_relevant, std::min(k_, query.all_items), denominator);
  }

 private:
  static constexpr int kTables = 2;
  struct Query {
    std::vector<uint32_t> seen;  // items that are not relevant, since the last flush
    std::vector<int64_t> rank, relevant_rank;
    int64_t unflushed = 0, all_items = 0, all_relevant = 0, retrieved = 0;
    double sum = 0.0;
  };

  // Before a 32-bit counter can overflow.
  void flush(Query& query, int64_t n_next) const {
    for (int32_t value = 0; value < n_values_; ++value) {
      for (int t = 0; t < kTables; ++t) {
        query.rank[static_cast<size_t>(value)] += query.seen[static_cast<size_t>(t * (2 * n_values_ + 1) + value)];
      }
    }
    std::fill(query.seen.begin(), query.seen.end(), 0u);
    query.unflushed = n_next;
  }

  int32_t n_values_;
  int64_t k_;
  std::vector<Query> queries_;
};

}  // namespace

void average_precision(const Pairs& pairs, const Relevance& relevance, int64_t k, Ties ties, Denominator denominator,
                       double* result, int n_threads) {
  const int32_t n_values = n_rank_values(pairs);
  const Marks marks = histogram_marks(pairs);
  const Plan plan = make_plan(pairs, 8 * HistogramTables::kTables * n_values, false, n_threads);
  parallel_for(plan.n_groups, plan.n_threads, [&](int64_t group) {
    const int64_t begin = group * plan.group, end = std::min(begin + plan.group, pairs.n_query);
    HistogramTables tables(end - begin, n_values);
    scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db,
         [&](int64_t q, int64_t, int64_t n, const uint16_t* row) { tables.add(q - begin, row, n); });
    if (ties != Ties::index) {
      for (int64_t q = begin; q < end; ++q) {
        result[q] = average_precision_from_histogram(
            [&](int64_t value) { return tables.items(q - begin, static_cast<int32_t>(value)); },
            [&](int64_t value) { return tables.relevant(q - begin, static_cast<int32_t>(value)); }, n_values, k, ties,
            denominator);
      }
      return;
    }
    OrderedPass pass(end - begin, n_values, k);
    for (int64_t q = begin; q < end; ++q) pass.start(q - begin, tables);
    std::vector<uint32_t> positions(static_cast<size_t>(block_items(4)));
    scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db,
         [&](int64_t q, int64_t, int64_t n, const uint16_t* row) {
           const int64_t found =
               simd().select_between(row, n, marks.relevant_offset, marks.not_allowed, positions.data());
           pass.add(q - begin, row, n, positions.data(), found);
         });
    for (int64_t q = begin; q < end; ++q) result[q] = pass.finish(q - begin, denominator);
  });
}

}  // namespace dshc::cpu
