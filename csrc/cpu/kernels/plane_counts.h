// Bit-sliced codes: 512 items lie as one 64-byte plane a bit, so that one instruction works on a bit of every item. Their
// counts come out of carry-save adders as planes too, and how many items have a count is the popcount of one AND. No
// counter in memory is touched item by item, which is what bounds a plain histogram.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../../core/types.h"
#include "planes.h"

namespace dshc::cpu {

constexpr int32_t kMaxSlicedBytes = 128;  // of a code; the tables of longer ones outgrow the first-level cache

// Adds to items[c] how many items of the blocks have count c (XOR or AND; rank values are the caller's), and to masked[c]
// how many of those that `masks` has a bit for. c runs to 8 * n_bytes + 7; columns beyond 8 * n_bytes get nothing.
struct CountCall {
  Score score;
  int32_t n_bytes;
  const uint64_t* planes;  // [n_blocks, 8 * n_bytes, kPlaneWords]
  int64_t n_blocks;
  const uint64_t* query;   // [8 * n_bytes]: all ones where the query's bit is set, else zero
  const uint64_t* masks;   // [n_blocks, kPlaneWords], or null
  uint64_t* items;
  uint64_t* masked;        // unused without masks
};

// Items of one label walked in the order of the blocks, each with what comes before it. The eight words of a plane are
// eight lanes; a lane's items lie in ascending order, block after block, and every (count, lane) is a slot of its own.
struct OrderCall {
  Score score;
  int32_t n_bytes;
  const uint64_t* planes;   // [n_blocks, 8 * n_bytes, kPlaneWords]
  int64_t n_blocks;
  const uint64_t* query;    // as above
  int64_t first_block;      // number of the first one
  int64_t n_relevant;       // items, all of them in these blocks
  const uint32_t* places;   // [n_relevant] block * kPlaneItems + place in the block, ascending
  const uint16_t* counts;   // [n_relevant] their counts with the query
  uint64_t* matches;        // [8 * n_bytes + 8, kPlaneWords] room
  uint64_t* seen;           // [8 * n_bytes + 8, kPlaneWords] items of each slot so far
  uint32_t* relevant;       // [8 * n_bytes + 8, kPlaneWords] relevant items of each slot so far
  // For each relevant item: its slot, and how many items and relevant ones its slot held before it.
  uint16_t* slots;
  uint32_t* items_before;
  uint32_t* relevant_before;
};

// The sum of (relevant_before + relevant_base[slot] + 1) / (items_before + items_base[slot] + 1) over the relevant items
// whose divisor is at most k. Added up in the same order on every level.
struct PrecisionCall {
  int64_t n_relevant;
  int64_t k;  // at most 2^31 - 2, as the ranks are
  const uint16_t* slots;
  const uint32_t *items_before, *relevant_before;
  const uint32_t *items_base, *relevant_base;  // of each slot
};
struct PrecisionSum {
  double sum;
  int64_t n_taken;
};

struct PlaneKernels {
  void (*count)(const CountCall& call);
  void (*walk)(const OrderCall& call);
  PrecisionSum (*sum_precisions)(const PrecisionCall& call);
};

}  // namespace dshc::cpu
