// counts[q, i] = popcount(query[q] ^ database[i]), or of the AND.
//
// Layout: codes row by row, counts [n_query, n_db] int32. Thread map: a block takes up to 32 queries (in shared memory) and 4 or
// 8 items a thread, a block's width apart, so that every load and store of a warp is one run of bytes, wherever a row of
// `counts` begins: with 4 consecutive items a thread, rows would lie on 16 bytes only where n_db is a multiple of 4, and stores
// of 4 bytes already come as whole lines. The items' codes stay in registers while the queries pass; they are on their way before
// the queries are copied. Moved: 4 bytes written a pair, the least possible; the database is read once for 32 queries, 1/32 code
// a pair, or once in all. Instructions, sm_90a, a pair of 64 bits: 2 LOP3, 2 POPC, 1 addition and a store; 32 pairs take 4 cycles
// of population counts and 7.8 to be written (132 multiprocessors at 1.98 GHz, 4.3 TB/s). 256 bits have 4 POPC, and take 8.
// Longer codes than 256 bits: a word at a time of 2 items and 8 queries, or 1.
// Limits: 2^31 blocks, of 32 queries and 1024 items or more; values from 2^43 pairs on do not fit a GPU anyway.
#include "../core/hamming_distance.h"

#include "code_registers.h"
#include "column_walk.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256, kMostQueries = 32;
template <int kWords> constexpr int kItems = kWords <= 2 ? 8 : 4;  // a thread
constexpr int kBlocks = 4;                                         // on a multiprocessor, at least

// kVectors: codes are read whole, kWords words.
template <int kWords, bool kVectors>
__global__ void __launch_bounds__(kThreads, kBlocks) distance_kernel(Pairs pairs, int64_t n_tiles,
                                                                     int32_t* __restrict__ counts /* [n_query, n_db] */) {
  constexpr int kTile = kThreads * kItems<kWords>;
  auto* queries = dynamic_shared<QueryWord>();  // [kMostQueries, kWords]
  const int64_t first_query = blockIdx.x / n_tiles * kMostQueries, first_item = blockIdx.x % n_tiles * kTile;
  const int n_queries = static_cast<int>(pairs.n_query - first_query < kMostQueries ? pairs.n_query - first_query : kMostQueries);
  const int there = static_cast<int>(pairs.n_db - first_item < kTile ? pairs.n_db - first_item : kTile);
  const uint8_t* from = pairs.database + first_item * pairs.n_bytes;
  Code<kWords> codes[kItems<kWords>];
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);
#pragma unroll
  for (int i = 0; i < kItems<kWords>; ++i) {
    const int item = static_cast<int>(threadIdx.x) + i * kThreads;
    codes[i] = Code<kWords>{};
    if (item >= there) continue;
    if constexpr (kVectors) {
      codes[i] = reinterpret_cast<const Code<kWords>*>(from)[item];
    } else {
      codes[i] = load_code<kWords>(from + item * pairs.n_bytes, pairs.n_bytes, whole);
    }
  }
  const bool whole_queries = has_whole_words(pairs.queries, pairs.n_bytes);
  for (int i = static_cast<int>(threadIdx.x); i < n_queries * kWords; i += kThreads) {
    const uint8_t* code = pairs.queries + (first_query + i / kWords) * pairs.n_bytes;
    queries[i] = query_word(load_word(code, i % kWords, pairs.n_bytes, whole_queries), pairs.score == Score::hamming);
  }
  __syncthreads();
  int32_t* to = counts + first_query * pairs.n_db + first_item + threadIdx.x;
#pragma unroll 1
  for (int q = 0; q < n_queries; ++q, to += pairs.n_db) {
    QueryWord query[kWords];
#pragma unroll
    for (int w = 0; w < kWords; ++w) query[w] = queries[q * kWords + w];
    if (there == kTile) {
#pragma unroll
      for (int i = 0; i < kItems<kWords>; ++i) __stcs(to + i * kThreads, column_count<kWords>(codes[i].words, query));
    } else {
#pragma unroll
      for (int i = 0; i < kItems<kWords>; ++i) {
        if (static_cast<int>(threadIdx.x) + i * kThreads < there) to[i * kThreads] = column_count<kWords>(codes[i].words, query);
      }
    }
  }
}

constexpr int kLongItems = 2;

template <class Word, int kQueries>
__global__ void __launch_bounds__(kThreads) long_distance_kernel(Pairs pairs, int64_t n_tiles,
                                                                 int32_t* __restrict__ counts /* [n_query, n_db] */) {
  Word* queries = dynamic_shared<Word>();  // [kQueries, n_words]
  const int64_t first_query = blockIdx.x / n_tiles * kQueries;
  const int64_t item = blockIdx.x % n_tiles * (kThreads * kLongItems) + threadIdx.x;
  load_queries(pairs, first_query, pairs.n_query, kQueries, queries);
  __syncthreads();
  int found[kQueries][kLongItems];
  score_items(pairs, queries, item, kThreads, pairs.n_db, 1, found);
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
    if (first_query + q >= pairs.n_query) break;
#pragma unroll
    for (int i = 0; i < kLongItems; ++i) {
      const int64_t at = item + i * kThreads;
      if (at < pairs.n_db) counts[(first_query + q) * pairs.n_db + at] = found[q][i];
    }
  }
}

template <int kWords>
int short_distance(const Pairs& pairs, int32_t* counts, Stream stream) {
  const int64_t n_tiles = divide_up(pairs.n_db, kThreads * kItems<kWords>);
  const bool vectors = reads_vectors(pairs.database, pairs.n_bytes);
  return launch(vectors ? distance_kernel<kWords, true> : distance_kernel<kWords, false>,
                grid_of(divide_up(pairs.n_query, kMostQueries) * n_tiles), dim3(kThreads),
                sizeof(QueryWord) * kMostQueries * kWords, stream, pairs, n_tiles, counts);
}

template <class Word, int kQueries>
int long_distance(const Pairs& pairs, int32_t* counts, Stream stream) {
  const int64_t n_tiles = divide_up(pairs.n_db, kThreads * kLongItems);
  return launch(long_distance_kernel<Word, kQueries>, grid_of(divide_up(pairs.n_query, kQueries) * n_tiles),
                dim3(kThreads), static_cast<size_t>(kQueries * pairs.n_bytes), stream, pairs, n_tiles, counts);
}

}  // namespace

int hamming_distance(const Pairs& pairs, int32_t* counts, void* stream) {
  if (pairs.n_query == 0 || pairs.n_db == 0) return 0;
  if (pairs.n_bytes <= 4 * kMostColumnWords) {
    return with_padded_words(pairs.n_bytes, [&](auto words) {
      return short_distance<decltype(words)::value>(pairs, counts, stream);
    });
  }
  return with_word(pairs, [&](auto word) {
    using Word = decltype(word);
    return pairs.n_query == 1 ? long_distance<Word, 1>(pairs, counts, stream) : long_distance<Word, 8>(pairs, counts, stream);
  });
}

}  // namespace dshc::cuda
