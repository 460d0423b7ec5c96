// How a call is cut into columns, blocks and shards for the kernels that walk_columns (column_walk.h), and which of them it takes.
#pragma once
#include "column_walk.h"

namespace dshc::cuda {

// Without an attribute of the kernel.
constexpr size_t kMostShared = 48 * 1024;
// A counter has 16 bits for items and 16 for relevant items. Whole tiles of every size: of a part of one, the first lanes
// would get more than the others.
constexpr int64_t kMostItemsALane = 255 * 256;
static_assert(kMostItemsALane % kColumnTile<2> == 0 && kMostItemsALane % kColumnTile<8> == 0, "whole tiles");
// A block of an ordered walk first adds up the counts of all shards.
constexpr int64_t kMostOrderedShards = 64;

inline int column_tile(int words) { return words <= 2 ? kColumnTile<2> : kColumnTile<8>; }

inline size_t column_shared_bytes(const Pairs& pairs, const ColumnPlan& plan, int label_words) {
  const int words = padded_words(pairs.n_bytes), tile = column_tile(words), gaps = plan.lanes() * kChunkGap;
  const int entries =
      tile * (words + label_words) + (label_words > 0 ? 2 : 1) * gaps + plan.columns * plan.n_counters * plan.counter_words;
  return sizeof(uint32_t) * static_cast<size_t>(entries);
}

// Columns a thread owns: two for short codes, where shared memory would otherwise be busy for about as long with the words that
// every thread reads, of items and labels, as the population counts take.
inline int own_columns_of(const Pairs& pairs, const ColumnPlan& plan) {
  return plan.n_counters > 0 && plan.counter_words == 1 && padded_words(pairs.n_bytes) <= 2 && plan.columns > kWarp ? 2 : 1;
}

// Columns a query, a block and a thread: few of them without a query.
inline void choose_columns(const Pairs& pairs, int label_words, bool ordered, ColumnPlan& plan) {
  const int64_t n_query = plan.end_query - plan.first_query;
  const auto wastes = [](int64_t used, int64_t places) { return 8 * used < 7 * divide_up(used, places) * places; };
  plan.lane_bits = 0;
  while (!ordered && plan.lanes() < kWarp && wastes(n_query * plan.lanes(), kWarp)) ++plan.lane_bits;
  for (plan.columns = kMostColumns; plan.columns > kWarp; plan.columns /= 2) {
    if (column_shared_bytes(pairs, plan, label_words) <= kMostShared && !wastes(n_query * plan.lanes(), plan.columns)) break;
  }
  plan.threads = plan.columns / own_columns_of(pairs, plan);
  plan.row_bytes = plan.columns * static_cast<int32_t>(sizeof(uint32_t));
}

// How many shards: so many that each multiprocessor has the same number of blocks, as many as it holds at once or a multiple
// of that, and so few that it costs little to set counters to 0 and to add them to the result. The model: a block's time
// grows with its items and its counters, and with the columns beside it from the number on that keep a multiprocessor busy.
inline void choose_shards(const Pairs& pairs, int label_words, bool ordered, ColumnPlan& plan) {
  constexpr int64_t kBusy = 512, kMostAtOnce = 2048, kMostBlocks = 32, kReservedShared = 1024;
  constexpr int64_t kItemsABlock = 64, kItemsACounter = 4;  // what costs about as much as so many items
  const int64_t most = ordered ? kMostOrderedShards : INT64_MAX;
  const int64_t groups = divide_up(plan.end_query - plan.first_query, plan.queries_a_block());
  const int64_t units = multiprocessors();
  const auto shared = static_cast<int64_t>(column_shared_bytes(pairs, plan, label_words));
  int64_t at_once = shared_bytes_a_multiprocessor() / (shared + kReservedShared);
  if (at_once * plan.columns > kMostAtOnce) at_once = kMostAtOnce / plan.columns;
  at_once = at_once > kMostBlocks ? kMostBlocks : at_once < 1 ? 1 : at_once;
  const auto busy = [&](int64_t blocks) { return blocks * plan.columns > kBusy ? blocks * plan.columns : kBusy; };
  const int64_t least = divide_up(pairs.n_db, kMostItemsALane * plan.lanes());
  plan.n_groups = static_cast<uint32_t>(groups);
  int64_t best = 0;
  for (int64_t blocks = 1; blocks * plan.columns <= kMostAtOnce; ++blocks) {  // a multiprocessor
    const int64_t fitting = blocks * units / groups < most ? blocks * units / groups : most;
    const int64_t shards = fitting > least ? fitting : least;
    const int64_t items = divide_up(divide_up(pairs.n_db, shards), kWarp) * kWarp, n_shards = divide_up(pairs.n_db, items);
    const int64_t a_counter = kItemsACounter + (ordered ? n_shards / 8 : 0);
    const int64_t all = divide_up(groups * n_shards, units), rest = all % at_once;
    const int64_t cost = (all / at_once * busy(at_once) + (rest > 0 ? busy(rest) : 0)) *
                         (items / plan.lanes() + kItemsABlock + a_counter * plan.n_counters);
    if (plan.n_shards != 0 && 40 * cost > 39 * best) continue;  // more shards have to be worth it
    best = cost;
    plan.shard_items = items;
    plan.n_shards = n_shards;
  }
}

enum class ColumnUse { counters, no_counters, order };  // order: a column meets its items ascending

inline ColumnPlan plan_columns(const Pairs& pairs, const RowPlan& rows, ColumnUse use, int label_words) {
  ColumnPlan plan{};
  plan.first_query = rows.first_query;
  plan.end_query = rows.end_query;
  plan.item_step = rows.item_step;
  plan.n_counters = use == ColumnUse::no_counters ? 0 : 8 * pairs.n_bytes + 1;
  plan.counter_words = use == ColumnUse::order ? 2 : 1;
  choose_columns(pairs, label_words, use == ColumnUse::order, plan);
  choose_shards(pairs, label_words, use == ColumnUse::order, plan);
  return plan;
}

// Words of a label in shared memory: 2 or 4 for rows of as many bits, else 1; 0 without labels.
inline int label_words_of(const Relevance& relevance) {
  if (relevance.database_words) return relevance.n_words <= 2 ? 2 * relevance.n_words : 1;
  return relevance.database_ids || relevance.database_wide_ids ? 1 : 0;
}

}  // namespace dshc::cuda
