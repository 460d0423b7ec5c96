#include "../core/hamming_distance.h"

#include <algorithm>

#include "call/call.h"
#include "call/fresh_memory.h"
#include "call/threads.h"
#include "counts/scan.h"

namespace dshc::cpu {

void hamming_distance(const Pairs& task, int32_t* counts, int n_threads) {
  const Call call;
  expect_writes(counts, 4 * task.n_query * task.n_db);
  Pairs pairs = task;
  pairs.allowed = nullptr;
  const int32_t top = pairs.score == Score::hamming ? 0 : 8 * pairs.n_bytes;  // what rank values are counted down from
  const Tasks tasks = cut_scan(pairs, 1, true, n_threads);
  parallel_for(tasks.n_tasks(), tasks.n_threads, [&](int64_t task) {
    const int64_t query = task / tasks.n_shards * tasks.group, item = task % tasks.n_shards * tasks.shard;
    scan(pairs, nullptr, Marks{0, 0}, query, std::min(query + tasks.group, pairs.n_query), item,
         std::min(item + tasks.shard, pairs.n_db), [&](int64_t q, int64_t first, int64_t n, const uint16_t* row) {
           int32_t* out = counts + q * pairs.n_db + first;
           if (top == 0) {
             for (int64_t i = 0; i < n; ++i) out[i] = row[i];
           } else {
             for (int64_t i = 0; i < n; ++i) out[i] = top - row[i];
           }
         });
  });
}

}  // namespace dshc::cpu
