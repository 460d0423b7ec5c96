// What the places of a query's relevant items add up to, with ties by index and many queries: one thread per query. For AP and
// for the other metrics; average_precision.cu and retrieval_metric.cu have kernels for all other calls.
#pragma once
#include "../core/average_precision.h"
#include "rows.h"

namespace dshc::cuda {

// What is formed of the relevant items inside the cut: rank is an item's place, hits its place among the relevant items.
enum class OrderedSum : int32_t {
  precisions,  // the sum of hits / rank
  discounts,   // the sum of DCG's discounts
  count,       // how many they are
  first,       // no sum: the largest 1 / rank, or 0
};

struct OrderedTask {
  OrderedSum what;
  int64_t k;  // the cut
  bool at_r;  // the cut is the number of relevant items
};

// For the queries of one launch.
struct OrderedParts {
  int64_t *items, *relevant;  // [n_query]: items, and relevant items, that may be answered
  double* sums;               // [n_shards, n_query]
  int64_t* hits;              // [n_shards, n_query]: relevant items inside the cut
  int64_t n_shards;
};

bool fits_index_columns(const Pairs& pairs);

int64_t index_columns_workspace_bytes(const Pairs& pairs);

// Fills *parts, which lie in the workspace, for the queries of `plan`.
int order_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const OrderedTask& task,
                     void* workspace, OrderedParts* parts, Stream stream);

}  // namespace dshc::cuda
