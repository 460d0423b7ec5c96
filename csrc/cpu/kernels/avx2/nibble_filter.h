// The filter by nibbles, for blocks that many queries pass over (AVX2). A look-up (vpshufb) in the row of a query's
// nibble gives what 32 items add to their rank values there, so that a look-up and an addition of bytes serve 32 pairs; the
// popcount of a byte takes two look-ups and the steps around them. The block is cut into its nibbles once for all queries.
#pragma once
#include <immintrin.h>

#include "../popcount_filter.h"

namespace dshc::cpu {
namespace {

inline __m256i load_bytes(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void store_bytes(uint8_t* to, __m256i bytes) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes); }

inline __m256i load_lanes(const uint8_t* low, const uint8_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(low))),
                                 _mm_loadu_si128(reinterpret_cast<const __m128i*>(high)), 1);
}

// Nibbles of 32 items from bytes[k], byte k of each in order, k < n_bytes.
template <int kBytes>
inline void store_nibbles(const __m256i (&bytes)[kBytes], int32_t n_bytes, uint8_t* nibbles) {
  const __m256i low = _mm256_set1_epi8(0x0F);
#pragma GCC unroll 8
  for (int k = 0; k < kBytes; ++k) {
    if (k >= n_bytes) break;
    store_bytes(nibbles + 2 * k * kTileItems, _mm256_and_si256(bytes[k], low));
    store_bytes(nibbles + (2 * k + 1) * kTileItems, _mm256_and_si256(_mm256_srli_epi16(bytes[k], 4), low));
  }
}

// 32 words of 8 bytes. Each row holds two words in either lane, their bytes in pairs; a transposition of these pairs makes
// each lane one byte of 16 words.
inline void cut_words64(const uint8_t* words, int32_t n_bytes, uint8_t* nibbles) {
  const __m256i pairs = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15,  //
                                         0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  __m256i rows[8], twos[8], fours[8], bytes[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) rows[r] = _mm256_shuffle_epi8(load_lanes(words + 16 * r, words + 128 + 16 * r), pairs);
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {  // twos[r], twos[4 + r]: bytes 0..3 and 4..7 of four words
    twos[r] = _mm256_unpacklo_epi16(rows[2 * r], rows[2 * r + 1]);
    twos[4 + r] = _mm256_unpackhi_epi16(rows[2 * r], rows[2 * r + 1]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {  // fours[2 * t], fours[2 * t + 1]: bytes 2 t and 2 t + 1 of the first and last eight words
    fours[4 * (r / 2) + r % 2] = _mm256_unpacklo_epi32(twos[2 * r], twos[2 * r + 1]);
    fours[4 * (r / 2) + 2 + r % 2] = _mm256_unpackhi_epi32(twos[2 * r], twos[2 * r + 1]);
  }
#pragma GCC unroll 4
  for (int t = 0; t < 4; ++t) {
    bytes[2 * t] = _mm256_unpacklo_epi64(fours[2 * t], fours[2 * t + 1]);
    bytes[2 * t + 1] = _mm256_unpackhi_epi64(fours[2 * t], fours[2 * t + 1]);
  }
  store_nibbles(bytes, n_bytes, nibbles);
}

// 32 words of 4 bytes, likewise: four words in either lane of a row.
inline void cut_words32(const uint8_t* words, int32_t n_bytes, uint8_t* nibbles) {
  const __m256i fours = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                         0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m256i rows[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) rows[r] = _mm256_shuffle_epi8(load_lanes(words + 16 * r, words + 64 + 16 * r), fours);
  const __m256i first01 = _mm256_unpacklo_epi32(rows[0], rows[1]), first23 = _mm256_unpackhi_epi32(rows[0], rows[1]);
  const __m256i last01 = _mm256_unpacklo_epi32(rows[2], rows[3]), last23 = _mm256_unpackhi_epi32(rows[2], rows[3]);
  const __m256i bytes[4] = {_mm256_unpacklo_epi64(first01, last01), _mm256_unpackhi_epi64(first01, last01),
                            _mm256_unpacklo_epi64(first23, last23), _mm256_unpackhi_epi64(first23, last23)};
  store_nibbles(bytes, n_bytes, nibbles);
}

void to_nibbles(const FilterPass& pass, uint8_t* nibbles) {
  for (int64_t i = 0; i + kTileItems <= pass.n; i += kTileItems) {
    uint8_t* tile = nibbles + i * 2 * pass.n_bytes;
    for (int64_t at = 0; at < kTileItems; at += 32) {
      for (int32_t w = 0; w < pass.n_words; ++w) {
        const uint8_t* words = pass.columns + (w * pass.column_items + i + at) * pass.word_bytes;
        (pass.word_bytes == 4 ? cut_words32 : cut_words64)(words, pass.n_bytes - 8 * w, tile + 16 * w * kTileItems + at);
      }
    }
  }
}

// rows[score][h][v]: what nibbles h of a query and v of an item add to the rank value.
struct NibbleTable {
  alignas(64) uint8_t rows[2][16][16] = {};
  constexpr NibbleTable() {
    for (int h = 0; h < 16; ++h) {
      for (int v = 0; v < 16; ++v) {
        for (int bit = 0; bit < 4; ++bit) {
          rows[0][h][v] = static_cast<uint8_t>(rows[0][h][v] + ((h ^ v) >> bit & 1));
          rows[1][h][v] = static_cast<uint8_t>(rows[1][h][v] + (~(h & v) >> bit & 1));
        }
      }
    }
  }
};
constexpr NibbleTable kNibbleTable;

constexpr int kTileVectors = kTileItems / 32;

// Every tile has its place, though few have candidates: as in filter_queries, stores to addresses that come late would hold up
// the loads behind them.
struct TileHits {
  uint64_t tiles;  // those with candidates, a bit each
  uint64_t masks[kMostTiledItems / kTileItems][kTileItems / 64];
};
static_assert(kMostTiledItems / kTileItems <= 64);

template <bool kSaturate, int kQueries>
inline __attribute__((always_inline)) void add_nibble(const uint8_t* nibbles, const uint8_t* table,
                                                      const uint8_t (*rows)[kMostTiledNibbles], int32_t j,
                                                      __m256i (&sums)[kQueries][kTileVectors]) {
  __m256i code[kTileVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kTileVectors; ++v) {
    code[v] = load_bytes(nibbles + j * kTileItems + 32 * v);
    if (kQueries > 1) __asm__("" : "+x"(code[v]));  // or it is loaded for each query, and loads become the limit
  }
#pragma GCC unroll 2
  for (int q = 0; q < kQueries; ++q) {
    const __m256i row = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table + rows[q][j])));
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      const __m256i more = _mm256_shuffle_epi8(row, code[v]);
      sums[q][v] = kSaturate ? _mm256_adds_epu8(sums[q][v], more) : _mm256_add_epi8(sums[q][v], more);
      __asm__("" : "+x"(sums[q][v]));  // or additions are put in another order, which takes more registers than there are
    }
  }
}

// Candidates in whole tiles for kQueries queries. kBySign, where most_tiled_bound is 128: sums begin at 128 - bound, and
// candidates are those left below 128; else they begin at 0 and are compared. Up to the last nibble no sum exceeds 252,
// and then they saturate, at a value that is below no bound.
// kBytes of a code; 0: as many as the pass says.
template <int kQueries, bool kBySign, int kBytes>
void find_in_tiles(const FilterPass& pass, int first_query, TileHits* hits) {
  const uint8_t* table = kNibbleTable.rows[pass.score == Score::hamming ? 0 : 1][0];
  const int32_t n_bytes = kBytes ? kBytes : pass.n_bytes, last = 2 * n_bytes - 2;  // nibble of the last byte
  uint8_t rows[kQueries][kMostTiledNibbles];
  __m256i bounds[kQueries];
  for (int q = 0; q < kQueries; ++q) {
    for (int32_t b = 0; b < n_bytes; ++b) {
      const uint8_t byte = pass.queries[first_query + q][b];
      rows[q][2 * b] = static_cast<uint8_t>(byte << 4);
      rows[q][2 * b + 1] = byte & 0xF0;
    }
    const int bound = pass.bounds[first_query + q];
    bounds[q] = _mm256_set1_epi8(static_cast<char>(kBySign ? 128 - bound : bound));
  }
  uint64_t tiles[kQueries] = {};
  const uint8_t* tile = pass.nibbles;
  for (int64_t t = 0; (t + 1) * kTileItems <= pass.n; ++t, tile += kTileItems * 2 * n_bytes) {
    __m256i sums[kQueries][kTileVectors];
    for (int q = 0; q < kQueries; ++q) {
      for (int v = 0; v < kTileVectors; ++v) sums[q][v] = kBySign ? bounds[q] : _mm256_setzero_si256();
    }
#pragma GCC unroll 8
    for (int32_t j = 0; j < last; j += 2) {
      add_nibble<false>(tile, table, rows, j, sums);
      add_nibble<false>(tile, table, rows, j + 1, sums);
    }
    add_nibble<true>(tile, table, rows, last, sums);
    add_nibble<true>(tile, table, rows, last + 1, sums);
    for (int q = 0; q < kQueries; ++q) {
      uint64_t* masks = hits[q].masks[t];
      uint64_t any = 0;
#pragma GCC unroll 2
      for (int m = 0; m < kTileVectors / 2; ++m) {
        uint32_t outside[2];
        for (int v = 0; v < 2; ++v) {
          const __m256i sum = sums[q][2 * m + v];
          const __m256i beyond = kBySign ? sum : _mm256_cmpeq_epi8(_mm256_max_epu8(sum, bounds[q]), sum);
          outside[v] = static_cast<uint32_t>(_mm256_movemask_epi8(beyond));
        }
        masks[m] = ~(uint64_t{outside[1]} << 32 | outside[0]);
        any |= masks[m];
      }
      tiles[q] |= static_cast<uint64_t>(any != 0) << t;
    }
  }
  for (int q = 0; q < kQueries; ++q) hits[q].tiles = tiles[q];
}

template <class Lanes, Score score>
void append_found(FilterPass& pass, int q, const TileHits& hits) {
  const uint64_t excess = excess_bits(pass);
  Key* found = pass.found[q];
  for (uint64_t tiles = hits.tiles; tiles; tiles &= tiles - 1) {
    const int64_t tile = __builtin_ctzll(tiles);
    for (int m = 0; m < kTileItems / 64; ++m) {
      const int64_t i = tile * kTileItems + 64 * m;
      uint64_t mask = hits.masks[tile][m];
      if (pass.allowed[q]) mask &= bits_at(pass.allowed[q], i, 64);
      const Key base = make_key(0, pass.first + static_cast<uint64_t>(i)) - (excess << kIndexBits);
      for (; mask; mask &= mask - 1) {
        const int64_t j = __builtin_ctzll(mask);
        *found++ = make_key(filter_value<Lanes, score>(pass, i + j, pass.queries[q]), static_cast<uint64_t>(j)) + base;
      }
    }
  }
  pass.found[q] = found;
}

template <class Lanes, int kQueries>
void filter_tiles(FilterPass& pass, int first_query) {
  TileHits hits[kQueries];
  if (pass.n_bytes == 4) {
    find_in_tiles<kQueries, true, 4>(pass, first_query, hits);
  } else if (pass.n_bytes == 8) {
    find_in_tiles<kQueries, true, 8>(pass, first_query, hits);
  } else if (most_tiled_bound(pass.n_bytes) == 128) {
    find_in_tiles<kQueries, true, 0>(pass, first_query, hits);
  } else {
    find_in_tiles<kQueries, false, 0>(pass, first_query, hits);
  }
  for (int q = 0; q < kQueries; ++q) {
    (pass.score == Score::hamming ? append_found<Lanes, Score::hamming> : append_found<Lanes, Score::overlap>)(
        pass, first_query + q, hits[q]);
  }
}

// Whole tiles by nibbles, what is left by popcounts.
template <class Lanes, int kWords>
void filter_nibbles(FilterPass& pass) {
  const int64_t n = pass.n / kTileItems * kTileItems;
  int q = 0;
  for (; q + 2 <= pass.n_queries; q += 2) filter_tiles<Lanes, 2>(pass, q);
  if (q < pass.n_queries) filter_tiles<Lanes, 1>(pass, q);
  if (n == pass.n) return;
  FilterPass rest = pass;
  rest.columns += n * pass.word_bytes;
  rest.n -= n;
  rest.first += static_cast<uint64_t>(n);
  for (q = 0; q < pass.n_queries; ++q) rest.allowed[q] = pass.allowed[q] ? pass.allowed[q] + n / 8 : nullptr;
  filter_popcounts<Lanes, kWords>(rest);
  for (q = 0; q < pass.n_queries; ++q) pass.found[q] = rest.found[q];
}

// Read in order, so that the second-level cache serves as well as the first; a longer block has fewer ends. Measured: from
// six queries on it pays, with four cutting a block costs what it saves.
template <class Lanes, int kWords>
constexpr FilterRow nibble_row(int32_t width) {
  return {"nibbles", width, kBothScores, most_tiled_bound(width), 8, kAnyQueries, {32 << 10, kTileItems, kMostTiledItems}, to_nibbles,
          filter_nibbles<Lanes, kWords>, nullptr};
}

}  // namespace
}  // namespace dshc::cpu
