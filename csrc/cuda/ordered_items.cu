// A stable counting sort of each query's items by rank value, cut off after `most` items: count, place, write.
//
// There are only 8 * n_bytes + 1 rank values, so nothing is compared: an item's place is (items of smaller values) + (items
// of its value in shards before) + (items of its value before it in its own shard). The first two come from counts by
// shard; the last from a counter in shared memory and, inside 32 items, a match of lanes. The key (value, index) is unique,
// so that shards, blocks and their order leave no trace in the answer, and any `most` up to n costs the same two passes over
// the pairs. Values of which no item can enter are dropped before the match, so that the second pass is mostly scoring.
//
// Layout: table [n_query, n_values, n_shards] int64: the placing kernel, one warp per query and value, reads and writes along
// shards.
// Thread map of the passes: rows.h. Least possible: one pass of scoring (with a list a block, merged after); the second
// pass is the price of any k with no limit. Moved: 12 bytes an answered item, 16 a query, value and shard.
#include "ordered_items.h"

#include "value_counts.h"

namespace dshc::cuda {
namespace {

constexpr int kPlaceThreads = 128, kPlaceValues = kPlaceThreads / kWarp;
constexpr int kPlaceTogether = 4;  // counts a lane takes in a round

// A warp turns the counts of one query and value into how many items of the value are in shards before; `starts` gets their sum.
// A block has few values, so that with one query and long codes, where shards and values are many, the whole device takes part.
__global__ void __launch_bounds__(kPlaceThreads) place_kernel(int64_t* __restrict__ table, int64_t* __restrict__ starts,
                                                              int32_t n_values, int64_t n_shards,
                                                              const int32_t* __restrict__ needed /* [n_query] or null */) {
  const int64_t blocks = (n_values + kPlaceValues - 1) / kPlaceValues, query = blockIdx.x / blocks;
  const int64_t value = blockIdx.x % blocks * kPlaceValues + warp();
  if (value >= n_values || (needed && needed[query] == 0)) return;  // whole warps
  int64_t* mine = table + (query * n_values + value) * n_shards;
  int64_t before = 0;
  for (int64_t first = 0; first < n_shards; first += kWarp * kPlaceTogether) {
    int64_t counts[kPlaceTogether], sum = 0;
    const int64_t at = first + lane() * kPlaceTogether;
#pragma unroll
    for (int i = 0; i < kPlaceTogether; ++i) {
      counts[i] = at + i < n_shards ? mine[at + i] : 0;
      sum += counts[i];
    }
    int64_t place = before + warp_sum_below(sum);
    before = __shfl_sync(kFullMask, static_cast<long long>(place + sum), kWarp - 1);
#pragma unroll
    for (int i = 0; i < kPlaceTogether; ++i) {
      if (at + i < n_shards) mine[at + i] = place;
      place += counts[i];
    }
  }
  if (lane() == 0) starts[query * (n_values + 1) + value] = before;
}

// A warp turns the sums of a query's values into how many items have smaller values.
__global__ void __launch_bounds__(kPlaceThreads) start_kernel(int64_t* __restrict__ starts, int64_t n_query, int32_t n_values,
                                                              const int32_t* __restrict__ needed /* [n_query] or null */) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kPlaceValues + warp();
  if (query >= n_query || (needed && needed[query] == 0)) return;  // whole warps
  int64_t before = 0;
  int64_t* mine = starts + query * (n_values + 1);
  for (int first = 0; first < n_values; first += kWarp) {
    const bool there = first + lane() < n_values;
    const int64_t count = there ? mine[first + lane()] : 0;
    const int64_t place = before + warp_sum_below(count);
    if (there) mine[first + lane()] = place;
    before = __shfl_sync(kFullMask, static_cast<long long>(place + count), kWarp - 1);
  }
  if (lane() == 0) mine[n_values] = before;
}

template <class Word, int kQueries>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) write_kernel(Pairs pairs, RowPlan plan, OrderedOutput output,
                                                            const int64_t* __restrict__ table,
                                                            const int64_t* __restrict__ starts) {
  if (output.needed && !any_needed(output.needed, block_first_query(plan), plan.end_query, kQueries)) return;
  uint32_t* seen = zero_tables(pairs, plan, 1);  // [kQueries, n_values] items of a value so far in this shard
  const int64_t query = block_first_query(plan) + warp();
  const int64_t in_launch = query - plan.first_query, shard = block_shard(plan);
  const int64_t* my_starts = starts + in_launch * (plan.n_values + 1);
  const int64_t* my_table = table + in_launch * plan.n_values * plan.n_shards + shard;
  int limit = 0;  // values of which an item can enter
  int64_t first_place = 0;
  if (warp() < kQueries && query < plan.end_query && !(output.needed && output.needed[query] == 0)) {
    for (int value = lane(); value < output.limit; value += kWarp) limit += my_starts[value] < output.most;
    limit = warp_reduce(limit, Sum{});
    first_place = output.offsets ? output.offsets[query] : query * output.most;
  }
  walk_rows<Word, kQueries, true>(pairs, Relevance{}, plan, [&](int q, uint16_t entry, int64_t item) {
    const bool enters = entry < limit;
    if (!__any_sync(kFullMask, enters)) return;
    const unsigned equal = __match_any_sync(kFullMask, static_cast<unsigned>(entry));
    const int before = __popc(equal & lanes_below());
    uint32_t* counter = seen + q * plan.n_values + entry;
    uint32_t earlier = 0;
    if (enters) {
      earlier = *counter;
      const int64_t place = my_starts[entry] + my_table[entry * plan.n_shards] + earlier + before;
      if (place < output.most) {
        output.indices[first_place + place] = item;
        output.counts[first_place + place] = pairs.score == Score::hamming ? entry : 8 * pairs.n_bytes - entry;
      }
    }
    __syncwarp();  // all lanes have read the counters
    if (enters && before == 0) *counter = earlier + static_cast<uint32_t>(__popc(equal));
    __syncwarp();
  });
}

int64_t table_entries(const Pairs& pairs, const RowPlan& plan) {
  return launch_queries(pairs, plan) * plan.n_values * plan.n_shards;
}

}  // namespace

int place_values(int64_t* table, int64_t* starts, int64_t n_query, int32_t n_values, int64_t n_shards, Stream stream,
                 const int32_t* needed) {
  const int64_t blocks = n_query * divide_up(n_values, kPlaceValues);
  const int status =
      launch(place_kernel, grid_of(blocks), dim3(kPlaceThreads), 0, stream, table, starts, n_values, n_shards, needed);
  if (status) return status;
  return launch(start_kernel, grid_of(divide_up(n_query, kPlaceValues)), dim3(kPlaceThreads), 0, stream, starts, n_query,
                n_values, needed);
}

int64_t ordered_workspace_bytes(const Pairs& pairs) {
  const RowPlan plan = plan_rows(pairs);
  return static_cast<int64_t>(sizeof(int64_t)) *
         (table_entries(pairs, plan) + launch_queries(pairs, plan) * (plan.n_values + 1));
}

int write_ordered(const Pairs& pairs, const OrderedOutput& output, void* workspace, Stream stream) {
  const RowPlan whole = plan_rows(pairs);
  auto* table = static_cast<int64_t*>(workspace);
  int64_t* starts = table + table_entries(pairs, whole);
  return for_each_chunk(pairs, whole, [&](const RowPlan& plan) {
    const ValueCounts counts{table, nullptr, true, plan.first_query, plan.n_values, false, output.needed};
    if (const int status = count_values(pairs, Relevance{}, plan, counts, stream)) return status;
    const int64_t n_query = plan.end_query - plan.first_query;
    const int32_t* needed = output.needed ? output.needed + plan.first_query : nullptr;
    if (const int status = place_values(table, starts, n_query, plan.n_values, plan.n_shards, stream, needed)) return status;
    return with_word_and_group(pairs, plan, [&](auto word, auto group) {
      return launch(write_kernel<decltype(word), decltype(group)::value>, grid_of(plan.n_blocks()), dim3(kRowThreads),
                    row_shared_bytes(pairs, plan, 1), stream, pairs, plan, output, table, starts);
    });
  });
}

}  // namespace dshc::cuda
