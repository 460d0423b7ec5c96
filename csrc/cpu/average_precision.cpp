#include "../core/average_precision.h"

#include <cstddef>
#include <vector>

#include "../common/average_precision.h"
#include "call/blocks.h"
#include "call/call.h"
#include "counts/by_index.h"
#include "counts/query_histograms.h"
#include "repeats/allowed_items.h"
#include "repeats/distinct_queries.h"

namespace dshc::cpu {
namespace {

void of_distinct_queries(const Pairs& pairs, const Relevance& relevance, int64_t k, Ties ties, Denominator denominator,
                         double* result, int n_threads) {
  if (ties == Ties::index) return average_precision_by_index(pairs, relevance, k, denominator, result, n_threads);
  query_histograms(pairs, relevance, n_threads, [&](int64_t q, const int64_t* items, const int64_t* relevant) {
    result[q] = average_precision_from_histogram([&](int64_t value) { return items[value]; },
                                                 [&](int64_t value) { return relevant[value]; }, n_rank_values(pairs), k,
                                                 ties, denominator);
  });
}

}  // namespace

void average_precision(const Pairs& pairs, const Relevance& relevance, int64_t k, Ties ties, Denominator denominator,
                       double* result, int n_threads) {
  const Call call;
  const AllowedItems allowed(pairs, relevance);
  const DistinctQueries queries(allowed.pairs(), allowed.relevance(), n_threads);
  if (queries.all_distinct()) {
    of_distinct_queries(queries.pairs(), queries.relevance(), k, ties, denominator, result, n_threads);
    return;
  }
  std::vector<double> distinct(static_cast<size_t>(queries.pairs().n_query));
  of_distinct_queries(queries.pairs(), queries.relevance(), k, ties, denominator, distinct.data(), n_threads);
  for (int64_t q = 0; q < pairs.n_query; ++q) result[q] = distinct[static_cast<size_t>(queries.distinct(q))];
}

}  // namespace dshc::cpu
