// The walk of the counting kernels (query_columns.cu). A *column* is one query and its counters: the thread that owns it keeps
// the query in registers and sees every item of its block's shard. Where queries are few, a query has several columns, its
// lanes, and each sees its part of every tile. A thread owns one column, or two, which then share what is read of the items.
#pragma once
#include "../core/types.h"
#include "column_tiles.h"
#include "rows.h"
#include "warp.h"

namespace dshc::cuda {

// The columns of one thread: `threads` apart, so that all are of the same chunk.
template <int kColumns>
struct OwnColumns {
  int64_t query[kColumns];  // the last one where the group is not full
  bool there[kColumns];     // whether the query is its own
  int chunk;
};

template <int kColumns>
__device__ __forceinline__ OwnColumns<kColumns> own_columns(const ColumnPlan& plan) {
  OwnColumns<kColumns> own;
  const int64_t first = plan.first_query + static_cast<int64_t>(column_group(plan)) * plan.queries_a_block();
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int64_t query = first + ((static_cast<int>(threadIdx.x) + c * plan.threads) >> plan.lane_bits);
    own.there[c] = query < plan.end_query;
    own.query[c] = own.there[c] ? query : plan.end_query - 1;
  }
  own.chunk = static_cast<int>(threadIdx.x) & (plan.lanes() - 1);
  return own;
}

// XOR and AND of a word with a query's, either by one three-input instruction and with no choice left to make: (x ^ flip) & keep.
struct QueryWord {
  uint32_t flip, keep;

  __device__ __forceinline__ uint32_t operator()(uint32_t x) const { return (x ^ flip) & keep; }
};

__device__ __forceinline__ QueryWord query_word(uint32_t word, bool use_xor) {
  return use_xor ? QueryWord{word, ~0u} : QueryWord{0u, word};
}

__device__ __forceinline__ uint32_t majority(uint32_t a, uint32_t b, uint32_t c) { return (a & b) | (c & (a | b)); }

// XOR or AND count. Carry-save additions take the place of population counts, of which a multiprocessor does 16 a cycle, and
// 64 of these: 4 words cost 3 counts, 8 words 4.
template <int kWords>
__device__ __forceinline__ int column_count(const uint32_t* item, const QueryWord (&query)[kWords]) {
  uint32_t x[kWords];
#pragma unroll
  for (int w = 0; w < kWords; ++w) x[w] = query[w](item[w]);
  if constexpr (kWords == 1) return __popc(x[0]);
  if constexpr (kWords == 2) return __popc(x[0]) + __popc(x[1]);
  if constexpr (kWords == 4) return __popc(x[0] ^ x[1] ^ x[2]) + __popc(x[3]) + 2 * __popc(majority(x[0], x[1], x[2]));
  if constexpr (kWords == 8) {
    const uint32_t a = x[0] ^ x[1] ^ x[2], b = x[3] ^ x[4] ^ x[5];
    const uint32_t c = majority(x[0], x[1], x[2]), d = majority(x[3], x[4], x[5]), e = majority(a, b, x[6]);
    return __popc(a ^ b ^ x[6]) + __popc(x[7]) + 2 * __popc(c ^ d ^ e) + 4 * __popc(majority(c, d, e));
  }
}

// What a pair adds to its counter: an item in the low 16 bits, and a relevant item in the high ones as well.
constexpr uint32_t kItem = 1, kRelevantItem = 0x10001;

// Compares a query's label with an item's. Equal ids have an XOR of 0, rows that share a label an AND that is not.
template <int kLabelWords>
struct LabelMatch {
  uint32_t words[kLabelWords];
  uint32_t at_zero, at_other;

  __device__ __forceinline__ uint32_t increment(const uint32_t* label) const {
    uint32_t x = kLabelWords == 1 ? label[0] ^ words[0] : label[0] & words[0];
#pragma unroll
    for (int w = 1; w < kLabelWords; ++w) x |= label[w] & words[w];
    return x == 0 ? at_zero : at_other;
  }
};

template <int kLabelWords>
__device__ __forceinline__ LabelMatch<kLabelWords> label_match(const Relevance& relevance, int64_t query) {
  if constexpr (kLabelWords == 1) {
    const LabelWord label = label_word(relevance.query_ids, relevance.query_wide_ids, query);
    return {{label.word}, label.whole ? kRelevantItem : kItem, kItem};  // no id that fits a word equals one that does not
  } else {
    LabelMatch<kLabelWords> match{{}, kItem, kRelevantItem};
#pragma unroll
    for (int w = 0; w < kLabelWords; ++w) {
      match.words[w] = static_cast<uint32_t>(relevance.query_words[query * (kLabelWords / 2) + w / 2] >> w % 2 * 32);
    }
    return match;
  }
}

// Bits of kColumnBatch items from `item` on, a multiple of kColumnBatch: those before `end` that the query may answer.
__device__ __forceinline__ unsigned batch_bits(const Pairs& pairs, int64_t item_step, int64_t query, int64_t item,
                                               int64_t end) {
  unsigned bits = end - item >= kColumnBatch ? (1u << kColumnBatch) - 1 : (1u << (end - item)) - 1;
  if (!pairs.allowed) return bits;
  const uint8_t* row = pairs.allowed + query * pairs.allowed_stride;
  if (item_step == 1) return bits & row[item / 8] >> item % 8;
  for (int u = 0; u < kColumnBatch; ++u) {
    const int64_t at = (item + u) * item_step;
    if (bits >> u & 1 && !(row[at / 8] >> at % 8 & 1)) bits ^= 1u << u;
  }
  return bits;
}

// kColumnBatch items of kWords words each, on a multiple of 16 bytes.
template <int kWords>
__device__ __forceinline__ void load_batch(const uint32_t* from, uint32_t (&words)[kColumnBatch * kWords]) {
#pragma unroll
  for (int w = 0; w < kColumnBatch * kWords; w += 4) {
    const uint4 four = *reinterpret_cast<const uint4*>(from + w);
    words[w] = four.x, words[w + 1] = four.y, words[w + 2] = four.z, words[w + 3] = four.w;
  }
}

// What a batch of items adds to each column of a thread by its labels, at `from`, or without any.
template <int kLabelWords, class Match, int kColumns>
__device__ __forceinline__ void label_increments(const uint32_t* from, const Match (&match)[kColumns],
                                                 uint32_t (&to)[kColumns][kColumnBatch]) {
  if constexpr (kLabelWords == 0) {
#pragma unroll
    for (int i = 0; i < kColumns * kColumnBatch; ++i) to[i / kColumnBatch][i % kColumnBatch] = kItem;
  } else {
    uint32_t words[kColumnBatch * kLabelWords];
    load_batch<kLabelWords>(from, words);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
#pragma unroll
      for (int u = 0; u < kColumnBatch; ++u) to[c][u] = match[c].increment(words + u * kLabelWords);
    }
  }
}

// Of a batch of items and the columns of a thread: XOR or AND counts, and what each pair adds.
template <int kColumns>
struct ColumnBatch {
  int counts[kColumns][kColumnBatch];
  uint32_t added[kColumns][kColumnBatch];
};

// Adds a batch to counters, *counter(column, count).
template <int kColumns, class Counter>
__device__ __forceinline__ void count_batch(const ColumnBatch<kColumns>& batch, Counter counter) {
#pragma unroll
  for (int u = 0; u < kColumnBatch; ++u) {
    uint32_t sums[kColumns];  // all read before one is written: different columns need not wait for each other
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[c] = *counter(c, batch.counts[c][u]) + batch.added[c][u];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) *counter(c, batch.counts[c][u]) = sums[c];
  }
}

// Calls add(batch) for batches of the `n` items of a chunk, the last one filled up with items that add 0; increments(i, to)
// says what the items from i on add. If kAhead, a batch is scored before the one in front of it is added: what the few warps of
// a multiprocessor wait for, counters read and written one after the other, then passes while bits are counted.
template <int kWords, int kColumns, bool kAhead, class Increments, class Add>
__device__ __forceinline__ void walk_chunk(const uint32_t* codes, int n, const QueryWord (&query)[kColumns][kWords],
                                           Increments increments, Add add) {
  const auto score = [&](int i, ColumnBatch<kColumns>& batch) {
    uint32_t words[kColumnBatch * kWords];
    load_batch<kWords>(codes + i * kWords, words);
    increments(i, batch.added);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
#pragma unroll
      for (int u = 0; u < kColumnBatch; ++u) batch.counts[c][u] = column_count<kWords>(words + u * kWords, query[c]);
    }
  };
  if constexpr (!kAhead) {
    for (int i = 0; i < n; i += kColumnBatch) {
      ColumnBatch<kColumns> batch;
      score(i, batch);
      add(batch);
    }
  } else {  // two batches a turn, so that none is moved
    if (n <= 0) return;
    ColumnBatch<kColumns> even, odd;
    score(0, even);
    int i = kColumnBatch;
#pragma unroll 1
    for (; i + kColumnBatch < n; i += 2 * kColumnBatch) {
      score(i, odd);
      add(even);
      score(i + kColumnBatch, even);
      add(odd);
    }
    if (i < n) score(i, odd);
    add(even);
    if (i < n) add(odd);
  }
}

// Calls add(batch) for all items of the block's shard, in no order that matters. A pair adds 0, kItem or, where there are
// labels, kRelevantItem. kAhead: as in walk_chunk.
template <int kWords, int kLabelWords, bool kAhead = false, int kColumns, class Add>
__device__ __forceinline__ void walk_columns(const Pairs& pairs, const Relevance& relevance, const ColumnPlan& plan,
                                             const OwnColumns<kColumns>& own, Add add) {
  constexpr int kTile = kColumnTile<kWords>;
  constexpr bool kLabelled = kLabelWords > 0;
  using Increments = uint32_t[kColumns][kColumnBatch];
  using Match = LabelMatch<kLabelled ? kLabelWords : 1>;
  auto* codes = dynamic_shared<uint32_t>();
  uint32_t* labels = codes + kTile * kWords + plan.lanes() * kChunkGap;
  const int chunk_items = 1 << chunk_bits<kWords>(plan), first = own.chunk * chunk_items;
  const uint32_t* my_codes = codes + own.chunk * (chunk_items * kWords + kChunkGap);
  const uint32_t* my_labels = labels + own.chunk * (chunk_items * kLabelWords + kChunkGap);
  const int64_t begin = static_cast<int64_t>(column_shard(plan)) * plan.shard_items;
  const int64_t end = begin + plan.shard_items < pairs.n_db ? begin + plan.shard_items : pairs.n_db;

  QueryWord query[kColumns][kWords];
  Match match[kColumns];
  const bool whole = whole_words(pairs.queries, pairs.n_bytes);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const uint8_t* code = pairs.queries + own.query[c] * pairs.n_bytes;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const uint32_t word = 4 * w < pairs.n_bytes ? code_word(code, pairs.n_bytes, w, whole) : 0;
      query[c][w] = query_word(word, pairs.score == Score::hamming);
    }
    if constexpr (kLabelled) match[c] = label_match<kLabelWords>(relevance, own.query[c]);
  }

  for (int64_t tile = begin; tile < end; tile += kTile) {
    const int n_items = end - tile < kTile ? static_cast<int>(end - tile) : kTile;
    __syncthreads();  // the tile before is read
    stage_codes<kWords>(pairs, plan, tile, n_items, codes);
    bool fit = true;
    if constexpr (kLabelled) {
      fit = __syncthreads_and(stage_labels<kWords, kLabelWords>(relevance, plan, tile, n_items, labels)) != 0;
    } else {
      __syncthreads();
    }
    const auto by_labels = [&](int i, Increments& to) { label_increments<kLabelWords>(my_labels + i * kLabelWords, match, to); };
    if (n_items == kTile && fit && !pairs.allowed) {
      walk_chunk<kWords, kColumns, kAhead>(my_codes, chunk_items, query, by_labels, add);
      continue;
    }
    const int mine = n_items - first < chunk_items ? n_items - first : chunk_items;
    walk_chunk<kWords, kColumns, false>(my_codes, mine, query, [&](int i, Increments& to) {
      const int64_t item = tile + first + i;
      by_labels(i, to);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const unsigned bits = batch_bits(pairs, plan.item_step, own.query[c], item, end);
#pragma unroll
        for (int u = 0; u < kColumnBatch; ++u) {
          if (!(bits >> u & 1)) {
            to[c][u] = 0;
          } else if (kLabelled && !fit) {
            to[c][u] = is_relevant(relevance, own.query[c], (item + u) * plan.item_step) ? kRelevantItem : kItem;
          }
        }
      }
    }, add);
  }
}

}  // namespace dshc::cuda
