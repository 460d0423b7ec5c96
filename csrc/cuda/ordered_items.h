// Items in the order of (rank value, index): what top-k, radius search and AP with ties by index share.
#pragma once
#include "../core/types.h"
#include "rows.h"

namespace dshc::cuda {

// Turns counts by shard (value_counts.h) into places: table [n_query, n_values, n_shards] becomes how many items of that
// value lie in the shards before; starts [n_query, n_values + 1] how many items have a smaller value (last: all items).
// Queries of which `needed` [n_query] is 0 are left alone.
int place_values(int64_t* table, int64_t* starts, int64_t n_query, int32_t n_values, int64_t n_shards, Stream stream,
                 const int32_t* needed = nullptr);

struct OrderedOutput {
  const int64_t* offsets;  // where each query's items begin, [n_query]; null: at query * most
  int64_t most;            // items per query at most
  int32_t limit;           // items with a rank value below it are answers
  int64_t* indices;
  int32_t* counts;
  const int32_t* needed = nullptr;  // [n_query]: queries of which it is 0 are left alone; null: all are done
};

int64_t ordered_workspace_bytes(const Pairs& pairs);

// Writes each query's best `most` items below the limit, in order; places that no item takes are left alone.
int write_ordered(const Pairs& pairs, const OrderedOutput& output, void* workspace, Stream stream);

}  // namespace dshc::cuda
