#include "../core/hamming_distance.h"

#include <algorithm>

#include "call/blocks.h"
#include "call/call.h"
#include "call/fresh_memory.h"
#include "call/threads.h"
#include "kernels/level.h"

namespace dshc::cpu {
namespace {

constexpr int64_t kCodeBytes = 512 << 10;  // half of a second-level cache: read again for every query of a group

// The answer is many times as large as the codes, so the order is the answer's: long runs of one query. Stores past the caches
// would lose: its pages are new mostly, and in the cache since the system has cleared them.
void write_distances(const Pairs& pairs, int64_t query_begin, int64_t query_end, int64_t begin, int64_t end, int32_t* counts) {
  const RankKernels& kernels = *level().rank;
  StridedCodes query_codes(pairs.n_bytes), database_codes(pairs.n_bytes);
  const int32_t stride = query_codes.stride();
  const uint8_t* queries = query_codes.load(pairs.queries, query_begin, query_end - query_begin);
  const int64_t block = std::max<int64_t>(kCodeBytes / stride / 64, 1) * 64;
  for (int64_t first = begin; first < end; first += block) {
    const int64_t n = std::min(block, end - first);
    const uint8_t* codes = database_codes.load(pairs.database, first, n);
    for (int64_t query = query_begin; query < query_end; ++query) {
      stop_point(0.05 * static_cast<double>(n * stride));
      kernels.count_row(pairs.score, queries + (query - query_begin) * stride, codes, n, stride,
                        counts + query * pairs.n_db + first);
    }
  }
}

}  // namespace

void hamming_distance(const Pairs& pairs, int32_t* counts, int n_threads) {
  const Call call;
  expect_writes(counts, 4 * pairs.n_query * pairs.n_db);
  const Tasks tasks = cut_scan(pairs, 1, true, n_threads);
  parallel_for(tasks.n_tasks(), tasks.n_threads, [&](int64_t task) {
    const int64_t query = task / tasks.n_shards * tasks.group, item = task % tasks.n_shards * tasks.shard;
    write_distances(pairs, query, std::min(query + tasks.group, pairs.n_query), item,
                    std::min(item + tasks.shard, pairs.n_db), counts);
  });
}

}  // namespace dshc::cpu
