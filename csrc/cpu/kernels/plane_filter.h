// The filter's second way, for many queries: bit planes instead of popcounts (docs/results/bit_sliced.md). Of 512 codes
// each bit is one 512-bit plane. Three planes of weight 1 give a carry, which is looked up among the eight forms that
// the query's three bits can make of it; their parity is a further plane, whose query bit is the XOR of the three. What
// is left are adders of carries, and an item is inside if distance + (bits - bound) does not carry out of the top.
//
// The tables are made once for each 512 codes, so that it takes many queries to pay. Hamming only: the parity of planes
// that are ANDed with bits of a query cannot be had from one plane for all queries.
#pragma once
#include <cstdint>

#include "filter.h"
#include "planes.h"

namespace dshc::cpu {

// A query: its bits with their parities, three bits for each of 16 tables in a word; then, for each weight from 2 on,
// all ones where the constant has the bit. Bit 0 of the constant is the third bit of the last table.
struct PlaneShape {
  int32_t bits, n_tables, pattern_words, start_words, query_words;  // query_words: from one query to the next
};
constexpr PlaneShape plane_shape(int32_t bits) {
  return {bits, bits / 2, (bits / 2 + 15) / 16, bits == 32 ? 4 : bits == 64 ? 5 : 6, bits == 128 ? 16 : 8};
}

// 512 codes as word columns: word w of item i at words + (w * column_items + i) * bytes of a word.
struct PlaneBlock {
  const uint8_t* words;
  int64_t column_items;
  uint64_t first;  // index of the first item
};

struct PlaneFilterKernels {
  PlaneShape shape;
  void (*tabulate)(const PlaneBlock& block, uint64_t* tables);  // [n_tables, 8 patterns, 8 words], on a cache line
  // Writes the queries[list[i]] that have items inside, and which: [.., 8 words]. Returns how many; room for n + 1.
  int64_t (*filter)(const uint64_t* tables, const uint64_t* queries, const uint16_t* list, int64_t n, uint16_t* hits,
                    uint64_t* masks);
  // Appends the keys of the items in `mask` and `allowed` (512 bits, or null).
  Key* (*keys)(const PlaneBlock& block, const uint64_t* mask, const uint8_t* allowed, const uint64_t* query,
               Key* found);
};

}  // namespace dshc::cpu
