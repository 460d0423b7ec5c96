#include "../core/hamming_histogram.h"

#include <algorithm>
#include <mutex>

#include "histogram.h"
#include "scan.h"
#include "threads.h"

namespace dshc::cpu {

void hamming_histogram(const Pairs& pairs, const Relevance& relevance, int32_t n_bits, int64_t* items, int64_t* relevant,
                       int n_threads) {
  const int32_t n_values = n_rank_values(pairs);
  const int64_t width = n_bits + 1;
  const Plan plan = make_plan(pairs, 8 * kTables * n_values, true, n_threads);
  std::fill(items, items + pairs.n_query * width, int64_t{0});
  std::fill(relevant, relevant + pairs.n_query * width, int64_t{0});
  std::mutex merging;  // shards of one query add to the same rows
  parallel_for(plan.n_tasks(), plan.n_threads, [&](int64_t task) {
    const int64_t begin = task / plan.n_shards * plan.group, end = std::min(begin + plan.group, pairs.n_query);
    const int64_t item = task % plan.n_shards * plan.shard;
    HistogramTables tables(end - begin, n_values);
    scan(pairs, &relevance, histogram_marks(pairs), begin, end, item, std::min(item + plan.shard, pairs.n_db),
         [&](int64_t q, int64_t, int64_t n, const uint16_t* row) { tables.add(q - begin, row, n); });
    const std::lock_guard<std::mutex> lock(merging);
    for (int64_t q = begin; q < end; ++q) {
      for (int32_t value = 0; value < n_values; ++value) {
        const int64_t column = q * width + std::min(count_of(pairs, value), n_bits);
        items[column] += tables.items(q - begin, value);
        relevant[column] += tables.relevant(q - begin, value);
      }
    }
  });
}

}  // namespace dshc::cpu
