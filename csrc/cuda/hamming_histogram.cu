// items[q, c] and relevant[q, c]: how many items, and relevant items, have count c (XOR or AND) with query q.
//
// Two fills and a kernel of query_columns.cu or value_counts.cu, which say layout, thread map and cost. The histograms are the whole output;
// nothing of size queries x database exists. A sort, or a scatter into global memory, would move 8 bytes or more a pair.
#include "../core/hamming_histogram.h"

#include "value_counts.h"

namespace dshc::cuda {

int hamming_histogram(const Pairs& pairs, const Relevance& relevance, int32_t n_bits, int64_t* items, int64_t* relevant,
                      void* stream) {
  if (pairs.n_query == 0) return 0;
  const int64_t bytes = pairs.n_query * (n_bits + 1) * static_cast<int64_t>(sizeof(int64_t));
  if (const int status = fill_zero(items, bytes, stream)) return status;
  if (const int status = fill_zero(relevant, bytes, stream)) return status;
  const ValueCounts counts{items, relevant, false, 0, n_bits + 1, true};
  return for_each_chunk(pairs, plan_rows(pairs), [&](const RowPlan& plan) {
    return count_values(pairs, relevance, plan, counts, stream);
  });
}

}  // namespace dshc::cuda
