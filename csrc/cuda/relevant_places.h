// The place of every relevant item in the order of (rank value, index), and its place among the relevant items: what AP and the
// other metrics have to know where ties are in the order of the database.
//
// Both come from counts by shard, placed as in ordered_items.cu, and counters in shared memory for what a shard has seen so far.
// Two passes of scoring: a place needs the whole histogram.
#pragma once
#include "ordered_items.h"
#include "rows.h"
#include "value_counts.h"

namespace dshc::cuda {

struct PlaceTables {
  int64_t *items, *relevant;               // [n_query, n_values, n_shards] counts, then places
  int64_t *item_starts, *relevant_starts;  // [n_query, n_values + 1]
};

// 8-byte entries of a workspace for so many queries.
inline int64_t place_entries(int64_t n_query, const RowPlan& plan) {
  return 2 * n_query * (plan.n_values * plan.n_shards + plan.n_values + 1);
}

inline PlaceTables carve_places(int64_t* at, int64_t n_query, const RowPlan& plan) {
  const int64_t table = n_query * plan.n_values * plan.n_shards, starts = n_query * (plan.n_values + 1);
  return {at, at + table, at + 2 * table, at + 2 * table + starts};
}

// Fills the tables for the queries of the plan.
inline int place_relevant(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const PlaceTables& tables,
                          Stream stream) {
  const int64_t n_query = plan.end_query - plan.first_query;
  const ValueCounts counts{tables.items, tables.relevant, true, plan.first_query, plan.n_values, false};
  if (const int status = count_values(pairs, relevance, plan, counts, stream)) return status;
  const int status = place_values(tables.items, tables.item_starts, n_query, plan.n_values, plan.n_shards, stream);
  if (status) return status;
  return place_values(tables.relevant, tables.relevant_starts, n_query, plan.n_values, plan.n_shards, stream);
}

// Calls use(before, relevant_before, item) on the lane that meets a relevant item: how many items, and how many relevant ones, are
// ranked before it. A warp has one query, block_first_query(plan) + warp(). Needs row_shared_bytes(pairs, plan, 2).
template <class Word, int kQueries, class Use>
__device__ __forceinline__ void walk_places(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan,
                                            const PlaceTables& places, Use use) {
  uint32_t* tables = zero_tables(pairs, plan, 2);  // [2, kQueries, n_values] items, relevant items so far in this shard
  const int table_size = kQueries * plan.n_values;
  const int64_t in_launch = block_first_query(plan) + warp() - plan.first_query, shard = block_shard(plan);
  const int64_t start_row = in_launch * (plan.n_values + 1), table_row = in_launch * plan.n_values;
  walk_rows<Word, kQueries, true>(pairs, relevance, plan, [&](int q, uint16_t entry, int64_t item) {
    const bool counts = entry != kNoItem, hit = counts && (entry & kRelevantMark);
    const int value = entry & kValueBits;  // of kNoItem: one that no item has
    const unsigned equal = __match_any_sync(kFullMask, static_cast<unsigned>(value));
    const unsigned equal_hits = equal & __ballot_sync(kFullMask, hit);
    uint32_t* counter = tables + q * plan.n_values + value;
    uint32_t earlier = 0, earlier_hits = 0;
    if (counts) {
      earlier = counter[0];
      earlier_hits = counter[table_size];
    }
    if (hit) {
      const int64_t entry_of_shard = (table_row + value) * plan.n_shards + shard;
      use(places.item_starts[start_row + value] + places.items[entry_of_shard] + earlier + __popc(equal & lanes_below()),
          places.relevant_starts[start_row + value] + places.relevant[entry_of_shard] + earlier_hits +
              __popc(equal_hits & lanes_below()),
          item);
    }
    __syncwarp();  // all lanes have read the counters
    if (counts && (equal & lanes_below()) == 0) {
      counter[0] = earlier + static_cast<uint32_t>(__popc(equal));
      counter[table_size] = earlier_hits + static_cast<uint32_t>(__popc(equal_hits));
    }
    __syncwarp();
  });
}

}  // namespace dshc::cuda
