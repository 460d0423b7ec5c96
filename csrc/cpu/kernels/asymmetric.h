// Weighted distances of codes in tiles (level.h), over a level's vectors. The quick filter is that of "fast scan" (Andre,
// Kermarrec, Le Scouarnec: Cache locality is not enough, VLDB 2015): small tables lie in registers, and one byte shuffle looks
// up the nibbles of as many items as a vector has bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "level.h"

namespace dshc::cpu {
namespace {

// ---- tiles ----

typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint16_t Words16 __attribute__((vector_size(16)));
typedef uint32_t Halves16 __attribute__((vector_size(16)));
typedef uint64_t Longs16 __attribute__((vector_size(16)));

// The lower or upper halves of two vectors, element by element.
template <class Vector, size_t... kAt>
inline Vector zip(Bytes16 a, Bytes16 b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(reinterpret_cast<Vector>(a), reinterpret_cast<Vector>(b), kAt...);
#else
  typedef Vector Mask;
  return __builtin_shuffle(reinterpret_cast<Vector>(a), reinterpret_cast<Vector>(b), Mask{kAt...});
#endif
}

inline Bytes16 zip_bytes(Bytes16 a, Bytes16 b) {
  return zip<Bytes16, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
}
inline void zip_words(Bytes16 a, Bytes16 b, Bytes16* to) {
  to[0] = reinterpret_cast<Bytes16>(zip<Words16, 0, 8, 1, 9, 2, 10, 3, 11>(a, b));
  to[1] = reinterpret_cast<Bytes16>(zip<Words16, 4, 12, 5, 13, 6, 14, 7, 15>(a, b));
}
inline void zip_halves(Bytes16 a, Bytes16 b, Bytes16* to) {
  to[0] = reinterpret_cast<Bytes16>(zip<Halves16, 0, 4, 1, 5>(a, b));
  to[1] = reinterpret_cast<Bytes16>(zip<Halves16, 2, 6, 3, 7>(a, b));
}
inline void zip_longs(Bytes16 a, Bytes16 b, Bytes16* to) {
  to[0] = reinterpret_cast<Bytes16>(zip<Longs16, 0, 2>(a, b));
  to[1] = reinterpret_cast<Bytes16>(zip<Longs16, 1, 3>(a, b));
}

// Eight bytes, `stride` apart, of each of 16 codes: column b gets byte b of all of them.
inline void transpose_16(const uint8_t* codes, int64_t stride, Bytes16* columns) {
  Bytes16 pairs[8], fours[8], eights[8];
  const auto half = [&](int64_t i) {
    uint64_t word;  // and not a part of the vector, which would go through memory
    std::memcpy(&word, codes + i * stride, 8);
    return reinterpret_cast<Bytes16>(Longs16{word, 0});
  };
  for (int i = 0; i < 8; ++i) pairs[i] = zip_bytes(half(2 * i), half(2 * i + 1));
  for (int i = 0; i < 4; ++i) zip_words(pairs[2 * i], pairs[2 * i + 1], fours + 2 * i);            // bytes 0-3, bytes 4-7
  for (int i = 0; i < 2; ++i) {
    for (int part = 0; part < 2; ++part) {                                                         // two bytes each
      zip_halves(fours[4 * i + part], fours[4 * i + 2 + part], eights + 4 * i + 2 * part);
    }
  }
  for (int part = 0; part < 4; ++part) zip_longs(eights[part], eights[4 + part], columns + 2 * part);
}

struct Columns16 {
  using Vector = Bytes16;
  static constexpr int kItems = 16;
  static void transpose(const uint8_t* codes, int64_t stride, Vector* columns) { transpose_16(codes, stride, columns); }
};

// `Columns`: how a level transposes eight bytes of as many codes as a vector of its bytes holds.
template <class Columns>
inline void arrange_by(const uint8_t* codes, int64_t n, int32_t n_bytes, int64_t stride, uint8_t* tiles) {
  constexpr int kItems = Columns::kItems;
  using Vector = typename Columns::Vector;
  const int64_t tile_bytes = int64_t{2} * n_bytes * kWeightedTile;
  for (int64_t first = 0; first < n; first += kWeightedTile, tiles += tile_bytes) {
    const uint8_t* mine = codes + first * stride;
    const int64_t items = n - first < kWeightedTile ? n - first : kWeightedTile;
    for (int32_t byte = 0; byte < n_bytes; byte += 8) {
      const int32_t here = n_bytes - byte < 8 ? n_bytes - byte : 8;
      uint8_t copy[8 * kWeightedTile];
      const uint8_t* from = mine + byte;
      int64_t apart = stride;
      if (here < 8 || items < kWeightedTile) {  // no byte past a code or past the last one is read
        std::memset(copy, 0, sizeof copy);
        for (int64_t i = 0; i < items; ++i) std::memcpy(copy + 8 * i, from + i * stride, static_cast<size_t>(here));
        from = copy;
        apart = 8;
      }
      for (int first_item = 0; first_item < kWeightedTile; first_item += kItems) {
        Vector columns[8];
        Columns::transpose(from + first_item * apart, apart, columns);
        uint8_t* to = tiles + byte * 2 * kWeightedTile + first_item;
        for (int32_t b = 0; b < here; ++b) {
          const Vector low = columns[b] & 15, high = columns[b] >> 4;
          std::memcpy(to + b * 2 * kWeightedTile, &low, kItems);
          std::memcpy(to + (b * 2 + 1) * kWeightedTile, &high, kItems);
        }
      }
    }
  }
}

[[maybe_unused]] void arrange(const uint8_t* codes, int64_t n, int32_t n_bytes, int64_t stride, uint8_t* tiles) {
  arrange_by<Columns16>(codes, n, n_bytes, stride, tiles);
}

// ---- distances ----

[[maybe_unused]] void distances_plain(const float* tables, const uint8_t* tiles, int64_t n_tiles, int32_t n_bytes,
                                      float* sums) {
  for (int64_t tile = 0; tile < n_tiles; ++tile, sums += kWeightedTile) {
    for (int i = 0; i < kWeightedTile; ++i) sums[i] = 0.0f;
    for (int32_t byte = 0; byte < n_bytes; ++byte, tiles += 2 * kWeightedTile) {
      const float *low = tables + 32 * byte, *high = low + 16;
      for (int i = 0; i < kWeightedTile; ++i) sums[i] += low[tiles[i]] + high[tiles[kWeightedTile + i]];
    }
  }
}

// ---- the quick filter ----

// kTiles tiles at a time, so that a table is fetched once for all their vectors.
template <class Lanes, int kTiles>
inline int64_t select_tiles(const uint8_t* tables, const uint8_t* tiles, int32_t n_bytes, uint32_t limit, uint32_t first,
                            uint32_t* positions) {
  using Vector = typename Lanes::Vector;
  constexpr int kOfTile = kWeightedTile / Lanes::kItems, kVectors = kTiles * kOfTile;
  const int64_t tile_bytes = int64_t{2} * n_bytes * kWeightedTile;
  const auto add_nibbles = [&](int32_t begin, int32_t end, Vector* sums) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[v] = Lanes::zero();
#pragma GCC unroll 4
    for (int32_t nibble = begin; nibble < end; ++nibble) {
      const Vector table = Lanes::table(tables + 16 * nibble);
      const uint8_t* column = tiles + nibble * kWeightedTile;
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        sums[v] = Lanes::add(sums[v], Lanes::look_up(table, column + v / kOfTile * tile_bytes + v % kOfTile * Lanes::kItems));
      }
    }
  };
  Vector sums[kVectors];
  uint64_t masks[kTiles] = {};
  if (n_bytes <= 8) {
    add_nibbles(0, 2 * n_bytes, sums);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) masks[v / kOfTile] |= Lanes::at_most(sums[v], limit) << (v % kOfTile * Lanes::kItems);
  } else {
    typename Lanes::Wide wide[kVectors] = {};
    for (int32_t byte = 0; byte < n_bytes; byte += 8) {
      add_nibbles(2 * byte, 2 * (byte + 8 < n_bytes ? byte + 8 : n_bytes), sums);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) Lanes::add_wide(&wide[v], sums[v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      masks[v / kOfTile] |= Lanes::at_most_wide(wide[v], limit) << (v % kOfTile * Lanes::kItems);
    }
  }
  int64_t found = 0;
  for (int tile = 0; tile < kTiles; ++tile) {
    for (uint64_t mask = masks[tile]; mask; mask &= mask - 1) {
      positions[found++] = first + static_cast<uint32_t>(tile * kWeightedTile + __builtin_ctzll(mask));
    }
  }
  return found;
}

template <class Lanes>
int64_t select_of(const uint8_t* tables, const uint8_t* tiles, int64_t n_tiles, int32_t n_bytes, uint32_t limit,
                  uint32_t* positions) {
  constexpr int kTogether = Lanes::kTiles;
  const int64_t tile_bytes = int64_t{2} * n_bytes * kWeightedTile;
  int64_t tile = 0, found = 0;
  for (; tile + kTogether <= n_tiles; tile += kTogether) {
    found += select_tiles<Lanes, kTogether>(tables, tiles + tile * tile_bytes, n_bytes, limit,
                                            static_cast<uint32_t>(tile * kWeightedTile), positions + found);
  }
  for (; tile < n_tiles; ++tile) {
    found += select_tiles<Lanes, 1>(tables, tiles + tile * tile_bytes, n_bytes, limit,
                                    static_cast<uint32_t>(tile * kWeightedTile), positions + found);
  }
  return found;
}

}  // namespace
}  // namespace dshc::cpu
