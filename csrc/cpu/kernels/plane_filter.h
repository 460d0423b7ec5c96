// The filter's second way, for many queries: bit planes instead of popcounts (docs/results/bit_sliced.md). Of a block of
// codes each bit is one plane. A few planes of weight 1 give carries, which are looked up among the forms that the query's
// bits can make of them; their parity is a further plane, whose query bit is the parity of the query's. What is left are
// adders of carries, and an item is inside if distance + (2^n - bound) does not carry out of the top, 2^n >= bits.
//
// The tables are made once for each block, so that it takes many queries to pay. Hamming only: the parity of planes
// that are ANDed with bits of a query cannot be had from one plane for all queries.
#pragma once
#include <cstdint>

#include "filter.h"
#include "planes.h"

namespace dshc::cpu {

// Codes as word columns: word w of item i at words + (w * column_items + i) * bytes of a word.
struct PlaneBlock {
  const uint8_t* words;
  int64_t column_items;
  uint64_t first;  // index of the first item
};

// A query is written as the level's loops read it: what its bits look up, and the constant that its bound makes.
struct PlaneFilterKernels {
  int32_t bits;  // of a code; bounds up to this one can be written
  int64_t items;  // of a block: a multiple of 64, kPlaneItems at most
  int64_t table_bytes, query_bytes;  // whole cache lines
  void (*set_code)(const uint64_t* code, uint8_t* query);  // into zeros
  void (*set_bound)(int32_t bound, uint8_t* query);        // of a query with a code; bound > 0
  void (*tabulate)(const PlaneBlock& block, uint8_t* tables);
  // Writes the queries[list[i]] that have items inside, and which: [.., items / 64]. Returns how many; room for n + 1.
  int64_t (*filter)(const uint8_t* tables, const uint8_t* queries, const uint16_t* list, int64_t n, uint16_t* hits,
                    uint64_t* masks);
  // Appends the keys of the items in `mask` and `allowed` (bits of the block's items, or null).
  Key* (*keys)(const PlaneBlock& block, const uint64_t* mask, const uint8_t* allowed, const uint64_t* code, Key* found);
};

// Of the widths that one source of loops has (plane_filter_loops.h).
struct PlaneFilters {
  PlaneFilterKernels of_32, of_64, of_128, of_192, of_256, of_384, of_512, of_768, of_1024;
};

}  // namespace dshc::cpu
