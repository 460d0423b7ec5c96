// counts[q, i] = popcount(query[q] ^ database[i]), or of the AND.
//
// Layout: codes row by row, counts [n_query, n_db] int32. Thread map: a block takes 8 queries (in shared memory) and 512
// items, a thread two items, 256 apart, so that each store of a warp is 128 consecutive bytes. Moved: 4 bytes written a pair,
// the least possible; the database is read once for each 8 queries, 1/8 code per pair, which is less than the 4 bytes up to
// 256 bits. Instructions: one logic operation, one population count and one addition for each 32 bits of a pair.
// Limits: n_query * n_db / 4096 blocks must fit a grid (2^31); values from 2^43 pairs on do not fit a GPU anyway.
#include "../core/hamming_distance.h"

#include "code_words.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256, kItems = 2, kQueries = 8;

template <class Word>
__global__ void __launch_bounds__(kThreads) distance_kernel(Pairs pairs, int64_t n_tiles,
                                                            int32_t* __restrict__ counts /* [n_query, n_db] */) {
  Word* queries = dynamic_shared<Word>();  // [kQueries, n_words]
  const int64_t first_query = blockIdx.x / n_tiles * kQueries;
  const int64_t item = blockIdx.x % n_tiles * (kThreads * kItems) + threadIdx.x;
  load_queries(pairs, first_query, pairs.n_query, kQueries, queries);
  __syncthreads();
  int found[kQueries][kItems];
  score_items(pairs, queries, item, kThreads, pairs.n_db, 1, found);
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
    if (first_query + q >= pairs.n_query) break;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int64_t at = item + i * kThreads;
      if (at < pairs.n_db) counts[(first_query + q) * pairs.n_db + at] = found[q][i];
    }
  }
}

}  // namespace

int hamming_distance(const Pairs& pairs, int32_t* counts, void* stream) {
  if (pairs.n_query == 0 || pairs.n_db == 0) return 0;
  const int64_t n_tiles = divide_up(pairs.n_db, kThreads * kItems);
  return with_word(pairs, [&](auto word) {
    return launch(distance_kernel<decltype(word)>, grid_of(divide_up(pairs.n_query, kQueries) * n_tiles),
                  dim3(kThreads), static_cast<size_t>(kQueries * pairs.n_bytes), stream, pairs, n_tiles, counts);
  });
}

}  // namespace dshc::cuda
