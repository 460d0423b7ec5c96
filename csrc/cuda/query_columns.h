// Counting of rank values, and of items within a radius, for codes of up to 256 bits: one thread per query.
#pragma once
#include "../core/types.h"
#include "rows.h"
#include "value_counts.h"

namespace dshc::cuda {

// Whether the functions below serve the call; value_counts.cu and hamming_radius.cu have kernels for all others.
bool fits_columns(const Pairs& pairs);

// As count_values for counts that are not by shard. Of `plan` the queries and item_step are read.
int count_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const ValueCounts& counts,
                     Stream stream);

// Adds to found[q] the items with a rank value below `limit`, for the queries of `plan`.
int count_below(const Pairs& pairs, const RowPlan& plan, int32_t limit, int64_t* found /* [pairs.n_query] */,
                Stream stream);

}  // namespace dshc::cuda
