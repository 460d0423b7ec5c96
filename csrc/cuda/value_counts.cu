// items[q, v] = how many items have rank value v for query q, relevant[q, v] = how many of them are relevant.
//
// Layout and thread map: rows.h. Each block counts in shared memory, 32 bits a counter, one table a query of its group, and
// hands its tables on once: added to the result by global atomics (integers: any order gives the same), or written apart
// for each shard, where an ordered pass follows. Least possible: the population counts of rows.h, and one shared addition
// a pair; the lanes of a warp that meet at one value are added one after the other, which a private table a lane would avoid
// at 32 times the memory: query_columns.cu has that, for codes of up to 256 bits and counts not by shard. Limits: codes up to
// 512 bytes (two tables of 4097 counters).
#include "value_counts.h"

#include "query_columns.h"

namespace dshc::cuda {
namespace {

template <class Word, int kQueries>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) count_kernel(Pairs pairs, Relevance relevance, RowPlan plan,
                                                            ValueCounts counts) {
  if (counts.needed && !any_needed(counts.needed, block_first_query(plan), plan.end_query, kQueries)) return;
  const int n_tables = counts.relevant ? 2 : 1;
  uint32_t* tables = zero_tables(pairs, plan, n_tables);
  const int table_size = kQueries * plan.n_values;
  walk_rows<Word, kQueries, false>(pairs, relevance, plan, [&](int q, uint16_t entry, int64_t) {
    if (entry == kNoItem) return;
    uint32_t* counter = tables + q * plan.n_values + (entry & kValueBits);
    atomicAdd(counter, 1u);
    if (entry & kRelevantMark) atomicAdd(counter + table_size, 1u);
  });
  __syncthreads();
  const int64_t first_query = block_first_query(plan), shard = block_shard(plan);
  for (int i = static_cast<int>(threadIdx.x); i < n_tables * table_size; i += kRowThreads) {
    const int q = i % table_size / plan.n_values, value = i % plan.n_values;
    const int64_t query = first_query + q;
    if (query >= plan.end_query) continue;
    int64_t* to = i < table_size ? counts.items : counts.relevant;
    if (counts.by_shard) {
      to[((query - counts.first_query) * plan.n_values + value) * plan.n_shards + shard] = tables[i];
    } else if (tables[i] != 0) {
      int column = counts.as_counts && pairs.score == Score::overlap ? 8 * pairs.n_bytes - value : value;
      if (column >= counts.n_columns) column = counts.n_columns - 1;
      atomicAdd(reinterpret_cast<unsigned long long*>(to + (query - counts.first_query) * counts.n_columns + column),
                static_cast<unsigned long long>(tables[i]));
    }
  }
}

}  // namespace

int count_values(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, const ValueCounts& counts,
                 Stream stream) {
  if (!counts.by_shard && fits_columns(pairs)) return count_in_columns(pairs, relevance, plan, counts, stream);
  return with_word_and_group(pairs, plan, [&](auto word, auto group) {
    return launch(count_kernel<decltype(word), decltype(group)::value>, grid_of(plan.n_blocks()), dim3(kRowThreads),
                  row_shared_bytes(pairs, plan, counts.relevant ? 2 : 1), stream, pairs, relevance, plan, counts);
  });
}

}  // namespace dshc::cuda
