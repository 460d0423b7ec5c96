// AP@k with ties by index: a relevant item adds hits / rank, rank its place in the order of (rank value, index), hits its place
// among the relevant items. For 256 queries and more, codes of up to 160 bits and databases of up to 4 million items.
//
// Two walks (column_walk.h) with the same blocks and shards. The first counts, as query_columns.cu does, and writes its counters
// apart for each shard, [shard, counter, query]: 16 bits for items and 16 for relevant items. In the second a column begins
// with the places that follow from these counts, two words of 32 bits a counter: items, and relevant items, of smaller values
// anywhere and of the same value in shards before. A thread meets its items in order of index, so that the counter is the place
// of the next item: no ballot, no match of lanes. Each shard writes its sum and its hits; a last kernel adds them in order.
// The sum is formed in one fixed order for one way of cutting; AP agrees with the CPU to 1e-12, not to the bit.
//
// Least possible: two passes of scoring (a rank needs the whole histogram), 16 cycles each of a scheduler for 32 pairs of 64
// bits (query_columns.cu). The second also has a quotient for each relevant item, which a warp works out when one of its lanes
// has one: 46 instructions issued for 32 pairs then (sm_90a, 183 for 4), against 20 cycles of shared memory with counters of two
// words. Moved beside the codes: 4 bytes per query, counter and shard written, and read again by each of its blocks, hence at
// most 64 shards.
// Why not the simpler way: by_index_kernel (average_precision.cu) matches the lanes of a warp and needs 8-byte tables by
// shard in global memory, read at every hit.
#include "index_columns.h"

#include "../common/average_precision.h"
#include "column_plan.h"

namespace dshc::cuda {
namespace {

constexpr int64_t kFewestQueries = 256;
constexpr int kMostLabelWords = 4;  // the plan does not depend on the labels, so that the workspace does not
constexpr int kFinishThreads = 32;

// What the launches for some queries share.
struct Partial {
  int64_t* all;     // [2, n_query]: items and relevant items that may be answered
  double* sums;     // [n_shards, n_query]
  int64_t* hits;    // [n_shards, n_query]
  uint32_t* table;  // [n_shards, n_counters, n_query]
};

int64_t partial_bytes(int64_t n_query, const ColumnPlan& plan) {
  return n_query * (2 * 8 + plan.n_shards * (2 * 8 + 4 * static_cast<int64_t>(plan.n_counters)));
}

Partial carve(void* workspace, int64_t n_query, const ColumnPlan& plan) {
  Partial partial{};
  partial.all = static_cast<int64_t*>(workspace);
  partial.sums = reinterpret_cast<double*>(partial.all + 2 * n_query);
  partial.hits = reinterpret_cast<int64_t*>(partial.sums + plan.n_shards * n_query);
  partial.table = reinterpret_cast<uint32_t*>(partial.hits + plan.n_shards * n_query);
  return partial;
}

// By the bits of 2^52 + x: a conversion takes as long as a population count, and as much from the same unit.
__device__ __forceinline__ double as_double(uint32_t x) {
  return __longlong_as_double(0x4330000000000000 | static_cast<long long>(x)) - 4503599627370496.0;
}

// hits / rank to 2e-14: the reciprocal in float, made twice as precise by one step of Newton's method.
__device__ __forceinline__ double precision_at(uint32_t hits, uint32_t rank) {
  const double guess = 1.0f / static_cast<float>(rank);
  return as_double(hits) * (guess * (2.0 - as_double(rank) * guess));
}

template <int kWords, int kLabelWords>
__device__ __forceinline__ uint32_t* column_table(const ColumnPlan& plan) {
  return dynamic_shared<uint32_t>() + kColumnTile<kWords> * (kWords + kLabelWords) + 2 * plan.lanes() * kChunkGap;
}

template <int kWords, int kLabelWords>
__global__ void __launch_bounds__(kMostColumns, kColumnBlocks<kWords>) count_kernel(Pairs pairs, Relevance relevance,
                                                                                    ColumnPlan plan, Partial partial) {
  const OwnColumns<1> own = own_columns<1>(plan);
  auto* column = reinterpret_cast<unsigned char*>(column_table<kWords, kLabelWords>(plan) + threadIdx.x);
  const auto counter = [&](int count) { return reinterpret_cast<uint32_t*>(column + count * plan.row_bytes); };
  for (int count = 0; count < plan.n_counters; ++count) *counter(count) = 0;
  walk_columns<kWords, kLabelWords>(pairs, relevance, plan, own, [&](const ColumnBatch<1>& batch) {
#pragma unroll
    for (int u = 0; u < kColumnBatch; ++u) *counter(batch.counts[0][u]) += batch.added[0][u];
  });
  if (!own.there[0]) return;
  const int64_t n_query = plan.end_query - plan.first_query;
  uint32_t* to = partial.table + static_cast<int64_t>(column_shard(plan)) * plan.n_counters * n_query;
  for (int count = 0; count < plan.n_counters; ++count) {
    to[count * n_query + (own.query[0] - plan.first_query)] = *counter(count);
  }
}

template <int kWords, int kLabelWords>
__global__ void __launch_bounds__(kMostColumns, kColumnBlocks<kWords>) order_kernel(Pairs pairs, Relevance relevance,
                                                                                    ColumnPlan plan, Partial partial,
                                                                                    uint32_t cut) {
  const OwnColumns<1> own = own_columns<1>(plan);
  auto* column = reinterpret_cast<unsigned char*>(
      reinterpret_cast<uint2*>(column_table<kWords, kLabelWords>(plan)) + threadIdx.x);
  const auto counter = [&](int count) { return reinterpret_cast<uint2*>(column + count * (2 * plan.row_bytes)); };
  const int64_t n_query = plan.end_query - plan.first_query, in_launch = own.query[0] - plan.first_query;
  const int64_t shard = column_shard(plan);
  uint32_t items = 0, relevant = 0;  // of smaller rank values
  for (int value = 0; value < plan.n_counters; ++value) {
    const int count = pairs.score == Score::hamming ? value : plan.n_counters - 1 - value;
    const uint32_t* from = partial.table + count * n_query + in_launch;
    uint2 before{items, relevant};
    for (int64_t s = 0; s < plan.n_shards; ++s) {
      const uint32_t both = from[s * plan.n_counters * n_query];
      items += both & 0xFFFF;
      relevant += both >> 16;
      if (s < shard) before.x += both & 0xFFFF, before.y += both >> 16;
    }
    *counter(count) = before;
  }
  double sum = 0.0;
  int64_t hits = 0;
  walk_columns<kWords, kLabelWords>(pairs, relevance, plan, own, [&](const ColumnBatch<1>& batch) {
    uint2 before[kColumnBatch];
#pragma unroll
    for (int u = 0; u < kColumnBatch; ++u) {
      uint2* at = counter(batch.counts[0][u]);
      before[u] = *at;
      *at = {before[u].x + (batch.added[0][u] & 0xFFFF), before[u].y + (batch.added[0][u] >> 16)};
    }
#pragma unroll
    for (int u = 0; u < kColumnBatch; ++u) {
      if (batch.added[0][u] != kRelevantItem || before[u].x >= cut) continue;
      sum += precision_at(before[u].y + 1, before[u].x + 1);
      ++hits;
    }
  });
  if (!own.there[0]) return;
  partial.sums[shard * n_query + in_launch] = sum;
  partial.hits[shard * n_query + in_launch] = hits;
  if (shard != 0) return;
  partial.all[in_launch] = items;
  partial.all[n_query + in_launch] = relevant;
}

__global__ void __launch_bounds__(kFinishThreads) finish_kernel(Partial partial, int64_t n_query, int64_t n_shards, int64_t k,
                                                                Denominator denominator, double* __restrict__ result) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
  if (query >= n_query) return;
  double sum = 0.0;
  int64_t hits = 0;
  for (int64_t shard = 0; shard < n_shards; ++shard) {
    sum += partial.sums[shard * n_query + query];
    hits += partial.hits[shard * n_query + query];
  }
  const int64_t items = partial.all[query], relevant = partial.all[n_query + query];
  result[query] = relevant == 0 ? NAN : divide_precisions(sum, hits, relevant, k < items ? k : items, denominator);
}

ColumnPlan ordered_plan(const Pairs& pairs, const RowPlan& rows) {
  return plan_columns(pairs, rows, ColumnUse::order, kMostLabelWords);
}

}  // namespace

bool fits_index_columns(const Pairs& pairs) {
  constexpr int64_t kMostItems = kMostOrderedShards * kMostItemsALane;
  ColumnPlan narrowest{};
  narrowest.columns = kWarp;
  narrowest.n_counters = 8 * pairs.n_bytes + 1;
  narrowest.counter_words = 2;
  return pairs.n_query >= kFewestQueries && pairs.n_bytes <= 4 * kMostColumnWords && pairs.n_db > 0 &&
         pairs.n_db <= kMostItems && column_shared_bytes(pairs, narrowest, kMostLabelWords) <= kMostShared;
}

int64_t index_columns_workspace_bytes(const Pairs& pairs) {
  int64_t most = 0;
  for_each_chunk(pairs, plan_rows(pairs), [&](const RowPlan& rows) {
    const int64_t bytes = partial_bytes(rows.end_query - rows.first_query, ordered_plan(pairs, rows));
    most = bytes > most ? bytes : most;
    return 0;
  });
  return most;
}

int average_precision_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& rows, int64_t k,
                                 Denominator denominator, double* result, void* workspace, Stream stream) {
  const ColumnPlan plan = ordered_plan(pairs, rows);
  const int64_t n_query = rows.end_query - rows.first_query;
  const Partial partial = carve(workspace, n_query, plan);
  const int labels = label_words_of(relevance) > 0 ? label_words_of(relevance) : 1;
  const dim3 grid = grid_of(plan.n_blocks()), block(static_cast<unsigned>(plan.threads));
  const size_t shared = column_shared_bytes(pairs, plan, labels);
  const uint32_t cut = k < UINT32_MAX ? static_cast<uint32_t>(k) : UINT32_MAX;
  const int status = with_padded_words(pairs.n_bytes, [&](auto words) {
    return with_words<4, 1>(labels, [&](auto label) {
      constexpr int kWords = decltype(words)::value, kLabelWords = decltype(label)::value;
      const int failed = launch(count_kernel<kWords, kLabelWords>, grid, block, shared, stream, pairs, relevance, plan, partial);
      if (failed) return failed;
      return launch(order_kernel<kWords, kLabelWords>, grid, block, shared, stream, pairs, relevance, plan, partial, cut);
    });
  });
  if (status) return status;
  return launch(finish_kernel, grid_of(divide_up(n_query, kFinishThreads)), dim3(kFinishThreads), 0, stream, partial, n_query,
                plan.n_shards, k, denominator, result + rows.first_query);
}

}  // namespace dshc::cuda
