#include "../core/hamming_histogram.h"

#include <algorithm>
#include <vector>

#include "call/blocks.h"
#include "call/call.h"
#include "call/fresh_memory.h"
#include "counts/query_histograms.h"
#include "repeats/allowed_items.h"
#include "repeats/distinct_queries.h"

namespace dshc::cpu {

void hamming_histogram(const Pairs& pairs, const Relevance& relevance, int32_t n_bits, int64_t* items, int64_t* relevant,
                       int n_threads) {
  const Call call;
  expect_writes(items, 8 * pairs.n_query * (n_bits + 1));
  expect_writes(relevant, 8 * pairs.n_query * (n_bits + 1));
  const AllowedItems allowed(pairs, relevance);
  const DistinctQueries queries(allowed.pairs(), allowed.relevance(), n_threads);
  const int32_t n_values = n_rank_values(pairs);
  const int64_t width = n_bits + 1;
  const auto write = [&](const int64_t* counts, int64_t* columns) {
    std::fill(columns, columns + width, int64_t{0});
    for (int32_t value = 0; value < n_values; ++value) columns[std::min(count_of(pairs, value), n_bits)] += counts[value];
  };
  if (queries.all_distinct()) {
    query_histograms(queries.pairs(), queries.relevance(), n_threads,
                     [&](int64_t q, const int64_t* all, const int64_t* hits) {
                       write(all, items + q * width);
                       write(hits, relevant + q * width);
                     });
    return;
  }
  std::vector<int64_t> distinct(static_cast<size_t>(queries.pairs().n_query * 2 * width));  // items, then relevant
  query_histograms(queries.pairs(), queries.relevance(), n_threads,
                   [&](int64_t q, const int64_t* all, const int64_t* hits) {
                     write(all, distinct.data() + 2 * q * width);
                     write(hits, distinct.data() + (2 * q + 1) * width);
                   });
  for (int64_t q = 0; q < pairs.n_query; ++q) {
    const int64_t* columns = distinct.data() + 2 * queries.distinct(q) * width;
    std::copy(columns, columns + width, items + q * width);
    std::copy(columns + width, columns + 2 * width, relevant + q * width);
  }
}

}  // namespace dshc::cpu
