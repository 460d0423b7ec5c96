// Bit-sliced codes: 512 items lie as one 64-byte plane a bit, so that one instruction works on a bit of every item. Their
// counts come out of carry-save adders as planes too, and how many items have a count is the popcount of one AND. No
// counter in memory is touched item by item, which is what bounds a plain histogram.
#pragma once
#include <cstdint>

#include "../core/types.h"

namespace dshc::cpu {

constexpr int64_t kBlockItems = 512;
constexpr int64_t kPlaneWords = 8;
constexpr int32_t kMaxSlicedBytes = 128;  // of a code; the tables of longer ones outgrow the first-level cache

// Adds to items[c] how many items of the blocks have count c (XOR or AND; rank values are the caller's), and to masked[c]
// how many of those that `masks` has a bit for. c runs to 8 * n_bytes + 7; columns beyond 8 * n_bytes get nothing.
struct SlicedCall {
  Score score;
  int32_t n_bytes;
  const uint64_t* planes;  // [n_blocks, 8 * n_bytes, kPlaneWords]
  int64_t n_blocks;
  const uint64_t* query;   // [8 * n_bytes]: all ones where the query's bit is set, else zero
  const uint64_t* masks;   // [n_blocks, kPlaneWords], or null
  uint64_t* items;
  uint64_t* masked;        // unused without masks
};

using CountSliced = void (*)(const SlicedCall& call);

// Of the level that simd() has chosen; null where the level has nothing better than counting item by item.
CountSliced count_sliced();

// Item 64 w + b of the block is bit b of word w in each plane. Items beyond n are zero.
void slice_block(const uint8_t* codes, int64_t n, int32_t n_bytes, uint64_t* planes);

}  // namespace dshc::cpu
