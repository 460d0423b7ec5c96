// The walk that all ranking ops share: a block takes a group of queries and a shard of the database, and turns tile after
// tile of items into one *row* of 16-bit rank values per query, in shared memory and in order of items; then each warp reads
// the row of its query, 32 items at a time. Rank values ascend from best to worst (the XOR count, or 8 * n_bytes minus the
// AND count); relevance is a bit of the value, and an item that may not be answered has a value beyond all others.
//
// The two steps are apart because they want different maps: scores want one thread per item, for every query of the group;
// selection wants one warp per query and items in order, so that ranks inside ties are a ballot and a population count.
// A row costs 2 bytes written to and read from shared memory a pair, against a population count for each 4 bytes of code.
//
// Grid: n_groups * n_shards blocks, shards running fastest. With few queries there are many shards, so that one query fills
// the chip; with many there is one. A call with very many queries is cut into chunks, which bounds the workspace.
#pragma once
#include "../core/types.h"
#include "../common/host_device.h"
#include "code_words.h"
#include "warp.h"

namespace dshc::cuda {

constexpr int kRowThreads = 256, kRowWarps = kRowThreads / kWarp;
constexpr int kRowBlocks = 3;  // resident on a multiprocessor at least; fewer registers a thread would spill
constexpr int kTileItems = 512, kItemsPerThread = kTileItems / kRowThreads;

// A row's entry: a rank value (at most 4096), perhaps marked relevant, or kNoItem.
constexpr uint16_t kValueBits = 0x3FFF, kRelevantMark = 0x4000, kNoItem = 0xFFFF;

// How a call is cut, and which part of it one launch does.
struct RowPlan {
  int64_t shard_items, n_shards;     // shard_items is a multiple of kTileItems
  int64_t chunk;                     // queries per launch
  int64_t first_query, end_query;    // of this launch
  int32_t group;                     // queries per block: 8, or 1 where there is but one or codes are long
  int32_t n_values;                  // rank values lie in [0, n_values)
  // Above 1, a sample: pairs.n_db items are visited, and item i of the walk is row i * item_step of the database, of its
  // labels and of `allowed`.
  int64_t item_step = 1;

  int64_t n_blocks() const { return divide_up(end_query - first_query, group) * n_shards; }
};

inline RowPlan plan_rows(const Pairs& pairs) {
  constexpr int64_t kBlocksPerMultiprocessor = 16;   // twice what is resident: evens out unequal blocks
  constexpr int64_t kLongCode = 64;                  // bytes; beyond, counters of 8 queries do not fit 48 KiB
  constexpr int64_t kMostItems = int64_t{1} << 30;   // a block counts in 32 bits
  const int64_t blocks = kBlocksPerMultiprocessor * multiprocessors();
  RowPlan plan{};
  plan.group = pairs.n_query > 1 && pairs.n_bytes <= kLongCode ? 8 : 1;
  plan.n_values = 8 * pairs.n_bytes + 1;
  plan.chunk = blocks * plan.group;
  const int64_t queries = plan.chunk < pairs.n_query ? plan.chunk : pairs.n_query;
  const int64_t shards = divide_up(blocks, divide_up(queries > 0 ? queries : 1, plan.group));
  plan.shard_items = divide_up(divide_up(pairs.n_db, shards), kTileItems) * kTileItems;
  if (plan.shard_items > kMostItems) plan.shard_items = kMostItems;
  plan.n_shards = divide_up(pairs.n_db, plan.shard_items);
  return plan;
}

// Queries one launch takes at most; workspaces are sized by it.
inline int64_t launch_queries(const Pairs& pairs, const RowPlan& plan) {
  return plan.chunk < pairs.n_query ? plan.chunk : pairs.n_query;
}

// launch_chunk(plan) for chunk after chunk of the queries, until one fails.
template <class LaunchChunk>
int for_each_chunk(const Pairs& pairs, RowPlan plan, LaunchChunk launch_chunk) {
  for (int64_t first = 0; first < pairs.n_query; first += plan.chunk) {
    plan.first_query = first;
    plan.end_query = first + plan.chunk < pairs.n_query ? first + plan.chunk : pairs.n_query;
    if (const int status = launch_chunk(plan)) return status;
  }
  return 0;
}

// work(Word{}, Group<n>{}) with the widest word and the plan's group as types.
template <int kQueries> struct Group { static constexpr int value = kQueries; };

template <class Work>
int with_word_and_group(const Pairs& pairs, const RowPlan& plan, Work work) {
  return with_word(pairs, [&](auto word) { return plan.group == 8 ? work(word, Group<8>{}) : work(word, Group<1>{}); });
}

// Shared memory of a walk: the queries' codes, the rows, then `n_tables` tables of one 32-bit counter per query and value.
DSHC_HOST_DEVICE inline int query_code_bytes(int32_t n_bytes, int32_t group) { return (n_bytes * group + 15) / 16 * 16; }

inline size_t row_shared_bytes(const Pairs& pairs, const RowPlan& plan, int n_tables) {
  return static_cast<size_t>(query_code_bytes(pairs.n_bytes, plan.group)) +
         static_cast<size_t>(plan.group) * (kTileItems * sizeof(uint16_t) + sizeof(uint32_t) * n_tables * plan.n_values);
}

// The counters [n_tables, group, n_values], set to 0; call it before the walk, whose first barrier they need.
__device__ __forceinline__ uint32_t* zero_tables(const Pairs& pairs, const RowPlan& plan, int n_tables) {
  auto* bytes = dynamic_shared<unsigned char>() + query_code_bytes(pairs.n_bytes, plan.group);
  auto* tables = reinterpret_cast<uint32_t*>(bytes + plan.group * kTileItems * sizeof(uint16_t));
  for (int i = static_cast<int>(threadIdx.x); i < n_tables * plan.group * plan.n_values; i += kRowThreads) tables[i] = 0;
  return tables;
}

__device__ __forceinline__ int64_t block_shard(const RowPlan& plan) { return blockIdx.x % plan.n_shards; }
__device__ __forceinline__ int64_t block_first_query(const RowPlan& plan) {
  return plan.first_query + blockIdx.x / plan.n_shards * plan.group;
}

// Whether one of the n queries from the first is marked; the same in all threads of the block.
__device__ __forceinline__ bool any_needed(const int32_t* needed, int64_t first_query, int64_t end_query, int n) {
  int32_t any = 0;
#pragma unroll 1
  for (int64_t query = first_query; query < first_query + n && query < end_query; ++query) any |= needed[query];
  return any != 0;
}

__device__ __forceinline__ bool is_relevant(const Relevance& relevance, int64_t query, int64_t item) {
  if (relevance.database_ids) return relevance.query_ids[query] == relevance.database_ids[item];
  if (relevance.database_wide_ids) return relevance.query_wide_ids[query] == relevance.database_wide_ids[item];
  if (!relevance.database_words) return false;
  for (int w = 0; w < relevance.n_words; ++w) {
    if (relevance.query_words[query * relevance.n_words + w] & relevance.database_words[item * relevance.n_words + w]) {
      return true;
    }
  }
  return false;
}

// Marks the entries that this thread wrote itself. Apart from the scoring loop, whose counters need the registers.
__device__ __forceinline__ void mark_entries(const Pairs& pairs, const Relevance& relevance, int64_t first_query,
                                             int n_queries, int64_t tile, int64_t end, int64_t item_step, uint16_t* rows) {
#pragma unroll 1
  for (int column = static_cast<int>(threadIdx.x); column < kTileItems && tile + column < end; column += kRowThreads) {
    const int64_t item = (tile + column) * item_step;
#pragma unroll 1
    for (int q = 0; q < n_queries; ++q) {
      const int64_t query = first_query + q;
      uint16_t* entry = rows + q * kTileItems + column;
      if (is_relevant(relevance, query, item)) *entry |= kRelevantMark;
      if (pairs.allowed && !(pairs.allowed[query * pairs.allowed_stride + item / 8] >> (item % 8) & 1)) *entry = kNoItem;
    }
  }
}

// Calls consume(q, entry, item) warp by warp: q is the warp's query, counted from the block's first, the same in all calls
// of a warp; entry and item are those of the lane. Items past the end come as kNoItem, so that whole warps call. If
// kOrdered, one warp sees all items of its query, ascending; else several warps may share a query.
template <class Word, int kQueries, bool kOrdered, class Consume>
__device__ __forceinline__ void walk_rows(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan,
                                          Consume consume) {
  static_assert(kRowWarps % kQueries == 0, "a warp has one query");
  Word* queries = dynamic_shared<Word>();
  auto* rows = reinterpret_cast<uint16_t*>(dynamic_shared<unsigned char>() + query_code_bytes(pairs.n_bytes, kQueries));
  const int64_t first_query = block_first_query(plan), begin = block_shard(plan) * plan.shard_items;
  const int64_t end = begin + plan.shard_items < pairs.n_db ? begin + plan.shard_items : pairs.n_db;
  const int base = pairs.score == Score::hamming ? 0 : 8 * pairs.n_bytes, sign = pairs.score == Score::hamming ? 1 : -1;
  const bool marks = pairs.allowed || relevance.database_ids || relevance.database_wide_ids || relevance.database_words;
  const int my_query = warp() % kQueries;
  const bool consumes = first_query + my_query < plan.end_query && (!kOrdered || warp() < kQueries);
  load_queries(pairs, first_query, plan.end_query, kQueries, queries);
  for (int64_t tile = begin; tile < end; tile += kTileItems) {
    __syncthreads();  // the rows of the tile before are read, and at first the queries written
    int counts[kQueries][kItemsPerThread];
    score_items(pairs, queries, tile + threadIdx.x, kRowThreads, end, plan.item_step, counts);
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
#pragma unroll
      for (int i = 0; i < kItemsPerThread; ++i) {
        const int column = static_cast<int>(threadIdx.x) + i * kRowThreads;
        const int entry = tile + column < end ? base + sign * counts[q][i] : kNoItem;
        rows[q * kTileItems + column] = static_cast<uint16_t>(entry);
      }
    }
    if (marks) {
      const int64_t there = plan.end_query - first_query;
      mark_entries(pairs, relevance, first_query, there < kQueries ? static_cast<int>(there) : kQueries, tile, end,
                   plan.item_step, rows);
    }
    __syncthreads();
    if (!consumes) continue;
    constexpr int kTogether = kOrdered ? 1 : kRowWarps / kQueries;  // warps that share a query
    for (int step = kOrdered ? 0 : warp() / kQueries; step < kTileItems / kWarp; step += kTogether) {
      const int column = step * kWarp + lane();
      consume(my_query, rows[my_query * kTileItems + column], tile + column);
    }
  }
}

}  // namespace dshc::cuda
