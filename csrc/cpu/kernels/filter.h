// What the filter of top-k and radius search works on: a few queries against one block of the database.
#pragma once
#include <cstdint>

#include "../../core/types.h"

namespace dshc::cpu {

// A candidate: rank value in the upper 16 bits, index of the item in the lower 48. Ascending keys are the order of an
// answer.
using Key = uint64_t;
constexpr int kIndexBits = 48;
constexpr Key make_key(uint64_t value, uint64_t index) { return value << kIndexBits | index; }
constexpr uint16_t value_of(Key key) { return static_cast<uint16_t>(key >> kIndexBits); }
constexpr int64_t index_of(Key key) { return static_cast<int64_t>(key & ((Key{1} << kIndexBits) - 1)); }

constexpr int kListedAhead = 64;  // listed items whose codes are fetched before they are compared

constexpr int kFilterQueries = 4;  // of a pass
constexpr int kMostBlockItems = 16384;

// How long a block is: what `bytes` have room for, in multiples of some items, `most` at most.
struct BlockLength {
  int64_t bytes, multiple, most;
};

// Nibbles: tiles of kTileItems items, in a tile all items' nibble 0 (the lower one of byte 0), then all their nibble 1,
// ...; a byte each.
constexpr int kTileItems = 128;
constexpr int kMostTiledItems = 4096;  // of a block
constexpr int kMostTiledNibbles = 64;  // of a code
constexpr int32_t n_nibbles(int32_t n_bytes) { return 2 * n_bytes; }
// Rank values are told from bounds up to this one within a byte.
constexpr int32_t most_tiled_bound(int32_t n_bytes) { return n_bytes <= 16 ? 128 : 255; }

// One pass: up to kFilterQueries queries against a block. The block lies in word columns: word w of item i at
// columns + (w * column_items + i) * word_bytes, so that one vector holds the same word of neighbouring items whatever the
// code length, and codes of one word need no copy.
struct FilterPass {
  Score score;
  int32_t n_bytes;          // of a code; the words are padded with zeros
  int32_t word_bytes;       // 4 (codes of up to 4 bytes) or 8
  int32_t n_words;
  const uint8_t* columns;
  int64_t column_items;
  const uint8_t* nibbles;   // of the block's whole tiles; null: none, or a bound is too high for them
  int64_t n;                // items in the block
  uint64_t first;           // index of its first item
  int n_queries;
  const uint8_t* queries[kFilterQueries];  // [n_words] words each
  uint16_t bounds[kFilterQueries];         // items of smaller rank value are candidates
  const uint8_t* allowed[kFilterQueries];  // bits of the block's items, little-endian; null: all are
  Key* found[kFilterQueries];              // room for n keys; moves on past those found, in order of index
};

}  // namespace dshc::cpu
