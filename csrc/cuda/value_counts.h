// How many items, and how many relevant items, each query has at each rank value: what all ranking ops but the plain
// distance begin with.
#pragma once
#include "../core/types.h"
#include "rows.h"

namespace dshc::cuda {

struct ValueCounts {
  int64_t* items;
  int64_t* relevant;  // or null
  // By shard: [n_query, n_values, n_shards], written. Else [n_query, n_columns], added to.
  bool by_shard;
  int64_t first_query;  // the query of the first row
  int32_t n_columns;
  bool as_counts;     // column j is the count (XOR or AND) j, not rank value j; counts beyond the last column fall into it
  // Null, or [pairs.n_query]: a block none of whose queries has an entry other than 0 returns at once, and writes nothing.
  const int32_t* needed = nullptr;
};

int count_values(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const ValueCounts& counts,
                 Stream stream);

}  // namespace dshc::cuda
