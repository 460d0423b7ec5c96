// Tiles of items in shared memory, for kernels that give each thread a query (column_walk.h), and how these cut their work.
//
// Codes are padded with zero words to 1, 2, 4 or 8 words of 32 bits. A tile is cut into as many *chunks* as a query has lanes,
// and 16 bytes lie between chunks: threads of one query read 16-byte vectors of different chunks without a bank conflict,
// threads of one chunk read the same address. All inner loops have constant offsets, whatever the number of lanes.
//
// Behind the codes lie the labels: one word per item for ids, two or four for label rows of up to 128 bits. Whether an int64
// id fits its word is found tile by tile while ids are copied; tiles with one that does not, and longer rows, are read from
// global memory pair by pair.
#pragma once
#include "../core/types.h"
#include "../common/host_device.h"
#include "launch.h"

namespace dshc::cuda {

constexpr int kMostColumns = 128;  // of a block
constexpr int kMostColumnWords = 8;
constexpr int kColumnBatch = 4;    // items a thread scores together
constexpr int kChunkGap = 4;       // words
template <int kWords> constexpr int kColumnTile = kWords <= 2 ? 256 : 128;  // items
template <int kWords> constexpr int kColumnBlocks = kWords <= 2 ? 6 : 4;    // of most columns on a multiprocessor, at least

struct ColumnPlan {
  int64_t shard_items, n_shards;  // shard_items is a multiple of 32
  int64_t first_query, end_query;
  int64_t item_step;              // as in RowPlan
  uint32_t n_groups;              // of queries
  int32_t columns, threads;       // a block
  int32_t lane_bits;              // a query has 1 << lane_bits columns: 1, 2, 4, ... 32
  int32_t n_counters;             // a column: 8 * n_bytes + 1, or 0
  int32_t counter_words;          // of 32 bits
  int32_t row_bytes;              // of a word of one counter of all columns; known to the compiler it would cost an instruction

  DSHC_HOST_DEVICE int lanes() const { return 1 << lane_bits; }
  DSHC_HOST_DEVICE int queries_a_block() const { return columns >> lane_bits; }
  int64_t n_blocks() const { return n_shards * n_groups; }
};

// Groups run fastest: blocks that run together share what they read of a large database.
__device__ __forceinline__ unsigned column_group(const ColumnPlan& plan) { return blockIdx.x % plan.n_groups; }
__device__ __forceinline__ unsigned column_shard(const ColumnPlan& plan) { return blockIdx.x / plan.n_groups; }

// A tile is cut into 1 << lane_bits chunks of 1 << chunk_bits items.
template <int kWords>
__device__ __forceinline__ int chunk_bits(const ColumnPlan& plan) { return (kWords <= 2 ? 8 : 7) - plan.lane_bits; }

// Word w of a code, zero past its end. `whole`: codes consist of words and lie where words may.
__device__ __forceinline__ uint32_t code_word(const uint8_t* code, int n_bytes, int w, bool whole) {
  if (whole) return reinterpret_cast<const uint32_t*>(code)[w];
  uint32_t word = 0;
  for (int byte = 0; byte < 4; ++byte) {
    if (4 * w + byte < n_bytes) word |= static_cast<uint32_t>(code[4 * w + byte]) << 8 * byte;
  }
  return word;
}

__device__ __forceinline__ bool whole_words(const uint8_t* codes, int n_bytes) {
  return n_bytes % 4 == 0 && reinterpret_cast<uintptr_t>(codes) % 4 == 0;
}

// Copies the tile's codes; items from `n_items` on are zero.
template <int kWords>
__device__ __forceinline__ void stage_codes(const Pairs& pairs, const ColumnPlan& plan, int64_t tile, int n_items,
                                            uint32_t* to) {
  const int bits = chunk_bits<kWords>(plan), thread = static_cast<int>(threadIdx.x);
  const uint8_t* from = pairs.database + tile * plan.item_step * pairs.n_bytes;
  if (n_items == kColumnTile<kWords> && plan.item_step == 1 && pairs.n_bytes == 4 * kWords &&
      reinterpret_cast<uintptr_t>(from) % sizeof(uint4) == 0) {
#pragma unroll 4
    for (int i = thread; i < kColumnTile<kWords> * kWords / 4; i += plan.threads) {
      const int chunk = 4 * i / kWords >> bits;
      reinterpret_cast<uint4*>(to)[i + chunk * (kChunkGap / 4)] = reinterpret_cast<const uint4*>(from)[i];
    }
    return;
  }
  const bool whole = whole_words(pairs.database, pairs.n_bytes);
#pragma unroll 4
  for (int i = thread; i < kColumnTile<kWords> * kWords; i += plan.threads) {
    const int item = i / kWords;
    uint32_t word = 0;
    if (item < n_items && i % kWords * 4 < pairs.n_bytes) {
      word = code_word(from + item * plan.item_step * pairs.n_bytes, pairs.n_bytes, i % kWords, whole);
    }
    to[i + (item >> bits) * kChunkGap] = word;
  }
}

// An id as a word, and whether that is all of it. Of label rows that are too long: that it is not.
struct LabelWord {
  uint32_t word;
  bool whole;
};

__device__ __forceinline__ LabelWord label_word(const int32_t* ids, const int64_t* wide_ids, int64_t at) {
  if (ids) return {static_cast<uint32_t>(ids[at]), true};
  if (!wide_ids) return {0, false};
  return {static_cast<uint32_t>(wide_ids[at]), wide_ids[at] == static_cast<int32_t>(wide_ids[at])};
}

// Copies the tile's labels; whether all that this thread copied fit.
template <int kWords, int kLabelWords>
__device__ __forceinline__ bool stage_labels(const Relevance& relevance, const ColumnPlan& plan, int64_t tile, int n_items,
                                             uint32_t* to) {
  const int bits = chunk_bits<kWords>(plan);
  bool fit = true;
#pragma unroll 2
  for (int item = static_cast<int>(threadIdx.x); item < n_items; item += plan.threads) {
    const int64_t at = (tile + item) * plan.item_step;
    uint32_t* words = to + item * kLabelWords + (item >> bits) * kChunkGap;
    if constexpr (kLabelWords == 1) {
      const LabelWord label = label_word(relevance.database_ids, relevance.database_wide_ids, at);
      *words = label.word;
      fit = fit && label.whole;
    } else {
#pragma unroll
      for (int w = 0; w < kLabelWords; w += 2) {
        const uint64_t word = relevance.database_words[at * (kLabelWords / 2) + w / 2];
        *reinterpret_cast<uint2*>(words + w) = {static_cast<uint32_t>(word), static_cast<uint32_t>(word >> 32)};
      }
    }
  }
  return fit;
}

}  // namespace dshc::cuda
