// The walk of the counting kernels for one query or two (query_columns.cu): a block takes one query and a shard of the
// database, a thread every threads-th item of it. A thread reads 4 or 8 codes and their labels at a time into registers: one
// query shares nothing that shared memory would save, and no warp waits for a tile. Blocks of the two queries lie side by side,
// so that the second finds in the cache what the first has read.
#pragma once
#include <type_traits>

#include "../core/types.h"
#include "code_registers.h"
#include "column_plan.h"

namespace dshc::cuda {

constexpr int64_t kFewQueries = 2;
constexpr int kItemBlocks = 6;  // on a multiprocessor: 48 KiB in flight of codes of 64 bits
template <int kWords> constexpr int kItemThreads = kWords <= 4 ? 128 : 64;                         // of a block at most
template <int kWords, bool kVectors> constexpr int kItemBatch = kWords <= 2 || kVectors ? 8 : 4;  // items a thread reads together

enum class ItemLabels { none, ids, wide_ids, words };

struct ItemPlan {
  int64_t shard_items, n_shards;
  int64_t first_query, n_query;  // of this launch
  int64_t item_step;             // as in RowPlan
  int32_t threads;               // a block: 32, 64 or 128
  int32_t n_counters;            // a thread, in shared memory

  int64_t n_blocks() const { return n_shards * n_query; }
  size_t shared_bytes() const { return sizeof(uint32_t) * static_cast<size_t>(n_counters) * threads; }
};

inline ItemPlan plan_items(const Pairs& pairs, const RowPlan& rows, int32_t n_counters) {
  constexpr int64_t kLeastItems = 4, kReservedShared = 1024;  // a thread; a block
  ItemPlan plan{};
  plan.first_query = rows.first_query;
  plan.n_query = rows.end_query - rows.first_query;
  plan.item_step = rows.item_step;
  plan.n_counters = n_counters;
  plan.threads = padded_words(pairs.n_bytes) <= 4 ? kItemThreads<4> : kItemThreads<8>;
  while (plan.threads > kWarp && plan.shared_bytes() > kMostShared) plan.threads /= 2;
  const int64_t fitting =
      shared_bytes_a_multiprocessor() / (static_cast<int64_t>(plan.shared_bytes()) + kReservedShared);
  const int64_t at_once = fitting < kItemBlocks ? fitting : kItemBlocks;
  const int64_t least = divide_up(pairs.n_db, kMostItemsALane * plan.threads);
  const int64_t most = at_once * multiprocessors() / plan.n_query;
  int64_t items = divide_up(pairs.n_db, most > least ? most : least);
  if (items < kLeastItems * plan.threads) items = kLeastItems * plan.threads;
  plan.shard_items = divide_up(items, plan.threads) * plan.threads;
  plan.n_shards = divide_up(pairs.n_db, plan.shard_items);
  return plan;
}

__device__ __forceinline__ int64_t item_query(const ItemPlan& plan) { return plan.first_query + blockIdx.x % plan.n_query; }
__device__ __forceinline__ int64_t item_shard(const ItemPlan& plan) { return blockIdx.x / plan.n_query; }

// Calls add(count, added) for all items of the block's shard that are this thread's: their XOR or AND count, and 0, kItem or
// kRelevantItem. If kVectors, codes are read whole.
template <int kWords, bool kVectors, ItemLabels kLabels, class Add>
__device__ __forceinline__ void walk_items(const Pairs& pairs, const Relevance& relevance, const ItemPlan& plan, Add add) {
  constexpr int kBatch = kItemBatch<kWords, kVectors>;
  using Label = std::conditional_t<kLabels == ItemLabels::wide_ids, int64_t, int32_t>;
  const int64_t query = item_query(plan), begin = item_shard(plan) * plan.shard_items;
  const int64_t end = begin + plan.shard_items < pairs.n_db ? begin + plan.shard_items : pairs.n_db;
  const int64_t code_bytes = plan.item_step * pairs.n_bytes;
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);
  const uint8_t* code = pairs.queries + query * pairs.n_bytes;
  const bool whole_query = has_whole_words(pairs.queries, pairs.n_bytes);
  QueryWord words[kWords];
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    words[w] = query_word(load_word(code, w, pairs.n_bytes, whole_query), pairs.score == Score::hamming);
  }
  Label wanted = 0;
  if constexpr (kLabels == ItemLabels::ids) wanted = relevance.query_ids[query];
  if constexpr (kLabels == ItemLabels::wide_ids) wanted = relevance.query_wide_ids[query];

  for (int64_t first = begin; first < end; first += kBatch * plan.threads) {
    const int there = static_cast<int>(end - first < kBatch * plan.threads ? end - first : kBatch * plan.threads);
    const uint8_t* from = pairs.database + first * code_bytes;
    Code<kWords> codes[kBatch];
    Label labels[kBatch];
    unsigned may = 0;  // a bit an item: whether it counts
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      const int at = static_cast<int>(threadIdx.x) + u * plan.threads;
      codes[u] = Code<kWords>{};
      labels[u] = 0;
      if (at >= there) continue;
      may |= 1u << u;
      if constexpr (kVectors) {
        codes[u] = *reinterpret_cast<const Code<kWords>*>(from + at * code_bytes);
      } else {
        codes[u] = load_code<kWords>(from + at * code_bytes, pairs.n_bytes, whole);
      }
      if constexpr (kLabels == ItemLabels::ids) labels[u] = relevance.database_ids[(first + at) * plan.item_step];
      if constexpr (kLabels == ItemLabels::wide_ids) labels[u] = relevance.database_wide_ids[(first + at) * plan.item_step];
    }
    if constexpr (kLabels == ItemLabels::words) {
#pragma unroll 1
      for (int u = 0; u < kBatch; ++u) {
        const int64_t item = (first + threadIdx.x + u * plan.threads) * plan.item_step;
        if ((may >> u & 1) && is_relevant(relevance, query, item)) may |= 1u << (kBatch + u);
      }
    }
    if (pairs.allowed) {
      const uint8_t* row = pairs.allowed + query * pairs.allowed_stride;
#pragma unroll 1
      for (int u = 0; u < kBatch; ++u) {
        const int64_t item = (first + threadIdx.x + u * plan.threads) * plan.item_step;
        if ((may >> u & 1) && !(row[item / 8] >> item % 8 & 1)) may ^= 1u << u;
      }
    }
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      bool relevant = false;
      if constexpr (kLabels == ItemLabels::words) {
        relevant = may >> (kBatch + u) & 1;
      } else if constexpr (kLabels != ItemLabels::none) {
        relevant = labels[u] == wanted;
      }
      const uint32_t added = relevant ? kRelevantItem : kItem;
      add(column_count<kWords>(codes[u].words, words), may >> u & 1 ? added : 0u);
    }
  }
}

// work(kernel's template arguments as values): Words<n>, whether codes are read whole, the labels.
template <ItemLabels kLabels> struct LabelsAre { static constexpr ItemLabels value = kLabels; };

template <class Work>
int with_item_labels(const Relevance& relevance, bool labelled, Work work) {
  if (labelled && relevance.database_ids) return work(LabelsAre<ItemLabels::ids>{});
  if (labelled && relevance.database_wide_ids) return work(LabelsAre<ItemLabels::wide_ids>{});
  if (labelled && relevance.database_words) return work(LabelsAre<ItemLabels::words>{});
  return work(LabelsAre<ItemLabels::none>{});
}

}  // namespace dshc::cuda
