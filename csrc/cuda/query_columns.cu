// items[q, v] = how many items have rank value v for query q, relevant[q, v] = how many of them are relevant; and
// found[q] = how many items have a rank value below a limit. For codes of up to 256 bits.
//
// Layout: results as in value_counts.h. A block takes up to 128 queries and a shard of the database; a query's counters, one
// for each XOR or AND count, lie under each other in shared memory, [counter, column], so that the bank is the thread whatever
// it counts: no two lanes ever meet, and no counter needs an atomic. 32 bits hold both numbers of a value, 16 each, hence
// at most 65,280 items per column. At its end a block adds its counters to the result by global atomics, those that are not 0.
// Thread map: column_walk.h. One query or two: item_walk.h, a thread a column of its own with the same counters, whose sums over
// the block are then added; what that needs is bytes, codes and labels read once, and 8 in flight a thread.
//
// Least possible and what is there, 64 bits and ids, in cycles of each of the four schedulers of a multiprocessor for 32
// pairs; instructions from the disassembly for sm_90a, 199 for 16 pairs:
//   population counts      2 of 8 cycles = 16: the limit, 8 pairs a cycle and multiprocessor
//   instructions issued    12.6: POPC 2, LOP3 2, IMAD 3.6, ISETP 1.1, SEL 1, LDS 1.4, STS 1, others 0.5
//   logic and comparisons  LOP3, ISETP, SEL, VIADD: 4.4 of 2 cycles = 8.8; multiply-adds 3.6 of 2 cycles = 7.3
//   shared memory          11, which all four share: a counter read and written, 2 of 4 cycles, and 3/8 of a read of 16 bytes
//                          that all lanes share, 8 cycles (with one column a thread it would be 14)
// 128 and 256 bits need 24 and 32 cycles of population counts (column_walk.h), found[] 9 instructions per pair beside its 16.
// Three warps a scheduler are all that the counters leave room for, and a pair's counter is read after that of the pair before is
// written: a batch of pairs is scored while the one in front of it is added.
// Bytes: a group of 128 queries reads the database once, a few queries once in all; 16 a result entry and shard.
//
// Why not the simpler way: value_counts.cu, which still takes longer codes and counts by shard, sends each pair through a row
// in shared memory and adds by shared atomics, where the lanes of a warp that meet at one value wait for each other.
#include "query_columns.h"

#include "column_plan.h"
#include "item_walk.h"

namespace dshc::cuda {
namespace {

// Adds what a counter holds to the result: XOR or AND count `count` of the query whose values begin at `row`.
__device__ __forceinline__ void add_count(const Pairs& pairs, const ValueCounts& counts, int64_t row, int count,
                                          uint32_t items, uint32_t relevant) {
  if (items == 0) return;
  int column = counts.as_counts || pairs.score == Score::hamming ? count : 8 * pairs.n_bytes - count;
  if (column >= counts.n_columns) column = counts.n_columns - 1;
  auto* to = reinterpret_cast<unsigned long long*>(counts.items + row + column);
  atomicAdd(to, static_cast<unsigned long long>(items));
  if (relevant == 0) return;
  to = reinterpret_cast<unsigned long long*>(counts.relevant + row + column);
  atomicAdd(to, static_cast<unsigned long long>(relevant));
}

// Adds 32 columns of a warp, from `first_column` of the block on, to the result: neighbouring lanes take neighbouring values of
// one query as far as the banks allow, since a query's columns lie in the banks of its lanes.
__device__ __forceinline__ void add_columns(const Pairs& pairs, const ColumnPlan& plan, const ValueCounts& counts,
                                            const uint32_t* table, int first_column) {
  const int queries = kWarp >> plan.lane_bits;                              // of the warp
  const int abreast = queries < 8 ? queries : 8, values = kWarp / abreast;  // of one step
  const int64_t first = plan.first_query + static_cast<int64_t>(column_group(plan)) * plan.queries_a_block() +
                        (first_column >> plan.lane_bits);
  for (int q = lane() / values; q < queries && first + q < plan.end_query; q += abreast) {
    const int64_t row = (first + q - counts.first_query) * counts.n_columns;
    for (int count = lane() % values; count < plan.n_counters; count += values) {
      const uint32_t* counters = table + count * plan.columns + first_column + (q << plan.lane_bits);
      uint32_t items = 0, relevant = 0;
      for (int i = 0; i < plan.lanes(); ++i) {
        const uint32_t both = counters[(i + count) & (plan.lanes() - 1)];
        items += both & 0xFFFF;
        relevant += both >> 16;
      }
      add_count(pairs, counts, row, count, items, relevant);
    }
  }
}

template <int kWords, int kLabelWords, int kColumns>
__global__ void __launch_bounds__(kMostColumns / kColumns, kColumnBlocks<kWords>) column_kernel(Pairs pairs,
                                                                                               Relevance relevance,
                                                                                               ColumnPlan plan,
                                                                                               ValueCounts counts) {
  const OwnColumns<kColumns> own = own_columns<kColumns>(plan);
  if (counts.needed) {
    bool needed = false;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) needed = needed || (own.there[c] && counts.needed[own.query[c]] != 0);
    if (!__syncthreads_or(needed)) return;
  }
  const int staged =
      kColumnTile<kWords> * (kWords + kLabelWords) + plan.lanes() * kChunkGap * (kLabelWords > 0 ? 2 : 1);
  uint32_t* table = dynamic_shared<uint32_t>() + staged;  // [n_counters, columns]
  auto* column = reinterpret_cast<unsigned char*>(table + threadIdx.x);
  const auto counter = [&](int c, int count) {
    return reinterpret_cast<uint32_t*>(column + c * (plan.row_bytes / kColumns) + count * plan.row_bytes);
  };
  for (int count = 0; count < plan.n_counters; ++count) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) *counter(c, count) = 0;
  }
  walk_columns<kWords, kLabelWords, true>(pairs, relevance, plan, own, [&](const ColumnBatch<kColumns>& batch) { count_batch(batch, counter); });
  __syncwarp();
#pragma unroll 1
  for (int c = 0; c < kColumns; ++c) add_columns(pairs, plan, counts, table, c * plan.threads + warp() * kWarp);
}

template <int kWords>
__global__ void __launch_bounds__(kMostColumns, kColumnBlocks<kWords>) below_kernel(
    Pairs pairs, ColumnPlan plan, int32_t low, uint32_t width, int64_t* __restrict__ found /* [n_query] */) {
  const OwnColumns<1> own = own_columns<1>(plan);
  uint32_t inside = 0;
  walk_columns<kWords, 0>(pairs, Relevance{}, plan, own, [&](const ColumnBatch<1>& batch) {
#pragma unroll
    for (int u = 0; u < kColumnBatch; ++u) {
      inside += static_cast<uint32_t>(batch.counts[0][u] - low) < width ? batch.added[0][u] : 0;
    }
  });
  if (own.there[0] && inside != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(found + own.query[0]), static_cast<unsigned long long>(inside));
  }
}

// One block, one query. Counters [n_counters, threads], as above.
template <int kWords, bool kVectors, ItemLabels kLabels>
__global__ void __launch_bounds__(kItemThreads<kWords>, kItemBlocks) item_kernel(Pairs pairs, Relevance relevance, ItemPlan plan,
                                                                                ValueCounts counts) {
  if (counts.needed && counts.needed[item_query(plan)] == 0) return;  // the whole block
  auto* table = dynamic_shared<uint32_t>();
  uint32_t* mine = table + threadIdx.x;
#pragma unroll 4
  for (int count = 0; count < plan.n_counters; ++count) mine[count * plan.threads] = 0;
  walk_items<kWords, kVectors, kLabels>(pairs, relevance, plan, [&](int count, uint32_t added) {
    mine[count * plan.threads] += added;
  });
  __syncthreads();
  const int64_t row = (item_query(plan) - counts.first_query) * counts.n_columns;
  for (int count = static_cast<int>(threadIdx.x); count < plan.n_counters; count += plan.threads) {
    const uint32_t* counters = table + count * plan.threads;
    uint32_t items = 0, relevant = 0;
#pragma unroll 8
    for (int i = 0; i < plan.threads; ++i) {  // each lane another bank
      const uint32_t both = counters[(i + count) & (plan.threads - 1)];
      items += both & 0xFFFF;
      relevant += both >> 16;
    }
    add_count(pairs, counts, row, count, items, relevant);
  }
}

template <int kWords, bool kVectors>
__global__ void __launch_bounds__(kItemThreads<kWords>, kItemBlocks) item_below_kernel(
    Pairs pairs, ItemPlan plan, int32_t low, uint32_t width, int64_t* __restrict__ found /* [n_query] */) {
  int64_t inside = 0;
  walk_items<kWords, kVectors, ItemLabels::none>(pairs, Relevance{}, plan, [&](int count, uint32_t added) {
    inside += static_cast<uint32_t>(count - low) < width ? added : 0;
  });
  inside = warp_reduce(inside, Sum{});
  if (lane() == 0 && inside != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(found + item_query(plan)), static_cast<unsigned long long>(inside));
  }
}

int count_items(const Pairs& pairs, const Relevance& relevance, const RowPlan& rows, const ValueCounts& counts,
                Stream stream) {
  const ItemPlan plan = plan_items(pairs, rows, 8 * pairs.n_bytes + 1);
  const bool vectors = reads_vectors(pairs.database, pairs.n_bytes);
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    return with_item_labels(relevance, counts.relevant != nullptr, [&](auto labels) {
      constexpr int kWords = decltype(words)::value;
      constexpr ItemLabels kLabels = decltype(labels)::value;
      return launch(vectors ? item_kernel<kWords, true, kLabels> : item_kernel<kWords, false, kLabels>,
                    grid_of(plan.n_blocks()), dim3(static_cast<unsigned>(plan.threads)), plan.shared_bytes(), stream,
                    pairs, relevance, plan, counts);
    });
  });
}

}  // namespace

bool fits_columns(const Pairs& pairs) { return pairs.n_bytes <= 4 * kMostColumnWords && pairs.n_db > 0; }

int count_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& rows, const ValueCounts& counts,
                     Stream stream) {
  if (rows.end_query - rows.first_query <= kFewQueries) return count_items(pairs, relevance, rows, counts, stream);
  const int labels = counts.relevant ? label_words_of(relevance) : 0;
  const ColumnPlan plan = plan_columns(pairs, rows, ColumnUse::counters, labels);
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    return with_words<4, 0>(labels, [&](auto label) {
      constexpr int kWords = decltype(words)::value, kLabelWords = decltype(label)::value;
      auto* kernel = &column_kernel<kWords, kLabelWords, 1>;
      if constexpr (kWords <= 2) {
        if (plan.threads != plan.columns) kernel = &column_kernel<kWords, kLabelWords, 2>;
      }
      return launch(kernel, grid_of(plan.n_blocks()), dim3(static_cast<unsigned>(plan.threads)),
                    column_shared_bytes(pairs, plan, labels), stream, pairs, relevance, plan, counts);
    });
  });
}

int count_below(const Pairs& pairs, const RowPlan& rows, int32_t limit, int64_t* found, Stream stream) {
  // Rank values below the limit as a range of counts.
  const int32_t low = pairs.score == Score::hamming ? 0 : 8 * pairs.n_bytes - limit + 1;
  if (rows.end_query - rows.first_query <= kFewQueries) {
    const ItemPlan plan = plan_items(pairs, rows, 0);
    const bool vectors = reads_vectors(pairs.database, pairs.n_bytes);
    return with_padded_words(pairs.n_bytes, [&](auto words) {
      constexpr int kWords = decltype(words)::value;
      return launch(vectors ? item_below_kernel<kWords, true> : item_below_kernel<kWords, false>, grid_of(plan.n_blocks()),
                    dim3(static_cast<unsigned>(plan.threads)), 0, stream, pairs, plan, low, static_cast<uint32_t>(limit), found);
    });
  }
  const ColumnPlan plan = plan_columns(pairs, rows, ColumnUse::no_counters, 0);
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    return launch(below_kernel<decltype(words)::value>, grid_of(plan.n_blocks()),
                  dim3(static_cast<unsigned>(plan.threads)), column_shared_bytes(pairs, plan, 0), stream, pairs, plan,
                  low, static_cast<uint32_t>(limit), found);
  });
}

}  // namespace dshc::cuda
