// The filter by bit planes with AVX-512, VBMI and GFNI. Like floats.h it keeps to an anonymous namespace and off inline
// functions of the standard library.
#include <immintrin.h>

#include "../plane_keys.h"

#define DSHC_INLINE __attribute__((always_inline)) inline

namespace dshc::cpu {
namespace {

using Plane = __m512i;

// A query: its bits with their parities, three bits for each of 16 tables in a word; then, for each weight from 2 on,
// all ones where the constant has the bit. Bit 0 of the constant is the third bit of the last table.
struct PlaneShape {
  int32_t n_tables, pattern_words, start_words, query_words;  // query_words: from one query to the next
};
constexpr PlaneShape plane_shape(int32_t bits) {
  const int32_t pattern_words = (bits / 2 + 15) / 16, start_words = __builtin_ctz(static_cast<unsigned>(bits)) - 1;
  return {bits / 2, pattern_words, start_words, (pattern_words + start_words + 7) / 8 * 8};
}

template <int kBits>
void set_code(const uint64_t* code, uint8_t* query) {
  constexpr PlaneShape kShape = plane_shape(kBits);
  // The bits of the code, then the parities of bits 3 g, 3 g + 1 and 3 g + 2 of this queue, which end in time.
  uint64_t queue[(kBits + kBits / 2) / 64 + 1] = {};
  __builtin_memcpy(queue, code, kBits / 8);
  auto* patterns = reinterpret_cast<uint64_t*>(query);
  for (int32_t g = 0; g < kShape.n_tables; ++g) {
    const int32_t low = 3 * g / 64, shift = 3 * g % 64;
    const uint64_t rest = shift > 61 ? queue[low + 1] << (64 - shift) : 0;
    const uint64_t bits = (queue[low] >> shift | rest) & 7;
    patterns[g / 16] |= bits << 3 * (g % 16);
    const int32_t to = kBits + g;
    queue[to / 64] |= (uint64_t{0x96} >> bits & 1) << to % 64;
  }
}

template <int kBits>
void set_bound(int32_t bound, uint8_t* query) {
  constexpr PlaneShape kShape = plane_shape(kBits);
  auto* words = reinterpret_cast<uint64_t*>(query);
  const uint64_t constant = static_cast<uint64_t>(kBits - bound);
  constexpr int kThirdBit = 3 * 15 + 2;  // of the last table, the sixteenth of its word
  uint64_t& last = words[kShape.pattern_words - 1];
  last = (last & ~(uint64_t{1} << kThirdBit)) | (constant & 1) << kThirdBit;
  for (int32_t w = 0; w < kShape.start_words; ++w) words[kShape.pattern_words + w] = 0 - (constant >> (w + 1) & 1);
}

DSHC_INLINE Plane sum3(Plane a, Plane b, Plane c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
DSHC_INLINE Plane carry3(Plane a, Plane b, Plane c) { return _mm512_ternarylogic_epi64(a, b, c, 0xE8); }

// 8 x 8 words of 64 bits.
DSHC_INLINE void transpose_words(Plane* r) {
  Plane a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int h = 0; h < 2; ++h) {
      b[4 * i + h] = _mm512_shuffle_i64x2(a[4 * i + h], a[4 * i + 2 + h], 0x88);
      b[4 * i + 2 + h] = _mm512_shuffle_i64x2(a[4 * i + h], a[4 * i + 2 + h], 0xDD);
    }
  }
  for (int h = 0; h < 2; ++h) {
    r[h] = _mm512_shuffle_i64x2(b[h], b[4 + h], 0x88);
    r[2 + h] = _mm512_shuffle_i64x2(b[2 + h], b[6 + h], 0x88);
    r[4 + h] = _mm512_shuffle_i64x2(b[h], b[4 + h], 0xDD);
    r[6 + h] = _mm512_shuffle_i64x2(b[2 + h], b[6 + h], 0xDD);
  }
}

// Word w of items 8 i..8 i + 7; 32-bit codes pair with the item 256 further on.
template <int kBits>
DSHC_INLINE Plane code_words(const PlaneBlock& block, int i, int w) {
  if (kBits != 32) return _mm512_loadu_si512(block.words + 8 * w * block.column_items + 64 * i);
  const auto half = [](const uint8_t* from) {
    return _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  return _mm512_or_si512(half(block.words + 32 * i), _mm512_slli_epi64(half(block.words + 1024 + 32 * i), 32));
}

template <int kBits>
DSHC_INLINE void make_planes(const PlaneBlock& block, Plane* planes) {
  alignas(64) uint8_t rows[64], columns[64];
  for (int i = 0; i < 64; ++i) rows[8 * (i / 8) + 7 - i % 8] = static_cast<uint8_t>(8 * (i % 8) + i / 8);
  for (int i = 0; i < 64; ++i) columns[i] = static_cast<uint8_t>(8 * (i % 8) + i / 8);
  const Plane by_byte = _mm512_load_si512(rows), gather = _mm512_load_si512(columns);
  const Plane diagonal = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201));
  constexpr int kWords = kBits <= 64 ? 1 : kBits / 64, kGroups = kBits == 32 ? 4 : 8;
  for (int w = 0; w < kWords; ++w) {
    Plane parts[8][8];  // [byte of the word][64 items]: 8 planes of 64 bits each
    for (int g = 0; g < kGroups; ++g) {
      Plane r[8];
      for (int v = 0; v < 8; ++v) {
        // A product with the diagonal transposes each 8 x 8 bits: a byte of 8 codes becomes 8 bytes of a bit each.
        const Plane bytes = _mm512_permutexvar_epi8(by_byte, code_words<kBits>(block, 8 * g + v, w));
        r[v] = _mm512_gf2p8affine_epi64_epi8(diagonal, bytes, 0);
      }
      transpose_words(r);
      for (int j = 0; j < 8; ++j) {
        const Plane bytes = _mm512_permutexvar_epi8(gather, r[j]);
        (kBits == 32 ? parts[j % 4][4 * (j / 4) + g] : parts[j][g]) = bytes;
      }
    }
    for (int j = 0; j < (kBits == 32 ? 4 : 8); ++j) {
      transpose_words(parts[j]);
      for (int b = 0; b < 8; ++b) planes[64 * w + 8 * j + b] = parts[j][b];
    }
  }
}

// Truth table of the carry with the inputs named by the bits of `pattern` complemented.
constexpr int carry_table(int pattern) {
  int table = 0;
  for (int i = 0; i < 8; ++i) {
    const int j = i ^ pattern;
    if ((j & 1) + (j >> 1 & 1) + (j >> 2 & 1) >= 2) table |= 1 << i;
  }
  return table;
}

template <int kPattern = 0>
DSHC_INLINE void all_carries(Plane x, Plane y, Plane z, Plane* to) {
  constexpr int kTable = carry_table(kPattern);
  to[kPattern] = _mm512_ternarylogic_epi64(z, y, x, kTable);  // bit 0 of the pattern is that of x
  if constexpr (kPattern < 7) all_carries<kPattern + 1>(x, y, z, to);
}

template <int kBits>
void tabulate(const PlaneBlock& block, uint8_t* tables) {
  Plane queue[kBits + kBits / 2];
  make_planes<kBits>(block, queue);
  queue[kBits + kBits / 2 - 1] = _mm512_setzero_si512();  // only the constant's bit
  auto* to = reinterpret_cast<Plane*>(tables);
  for (int g = 0; g < kBits / 2; ++g) {
    const Plane x = queue[3 * g], y = queue[3 * g + 1], z = queue[3 * g + 2];
    all_carries(x, y, z, to + 8 * g);
    if (g < kBits / 2 - 1) queue[kBits + g] = sum3(x, y, z);
  }
}

// The sums of some queries side by side: adders depend on each other, and a second query fills the gaps.
template <int kBits, int kSide>
struct Sums {
  static constexpr PlaneShape kShape = plane_shape(kBits);
  static constexpr int kTop = kShape.start_words + 1;  // weight 2^kTop = kBits
  struct Planes {
    Plane of[kSide];
  };
  const uint8_t* tables;
  const uint64_t* queries[kSide];
  Planes sums[kTop];
  uint64_t patterns[kSide];
  int table = 0;

  DSHC_INLINE Sums(const uint8_t* from, const uint64_t* const* of) : tables(from) {
    for (int j = 0; j < kSide; ++j) {
      queries[j] = of[j];
      for (int w = 1; w < kTop; ++w) {
        sums[w].of[j] = _mm512_set1_epi64(static_cast<long long>(of[j][kShape.pattern_words + w - 1]));
      }
    }
  }
  // The next plane of weight 2^kWeight.
  template <int kWeight>
  DSHC_INLINE Planes take() {
    Planes out;
    if constexpr (kWeight == 1) {
      const int shift = 3 * (table % 16);
      for (int j = 0; j < kSide; ++j) {
        if (table % 16 == 0) patterns[j] = queries[j][table / 16];
        const uint64_t at = (shift < 6 ? patterns[j] << (6 - shift) : patterns[j] >> (shift - 6)) & 0x1C0;
        out.of[j] = _mm512_load_si512(tables + 512 * table + at);
      }
      ++table;
    } else {
      const Planes a = take<kWeight - 1>(), b = take<kWeight - 1>(), s = sums[kWeight - 1];
      for (int j = 0; j < kSide; ++j) {
        sums[kWeight - 1].of[j] = sum3(s.of[j], a.of[j], b.of[j]);
        out.of[j] = carry3(s.of[j], a.of[j], b.of[j]);
      }
    }
    return out;
  }
  DSHC_INLINE Planes outside() { return take<kTop>(); }
};

template <int kBits, int kSide>
DSHC_INLINE int64_t filter_some(const uint8_t* tables, const uint64_t* queries, const uint16_t* list, int64_t n_hits,
                                uint16_t* hits, uint64_t* masks) {
  const uint64_t* of[kSide];
  for (int j = 0; j < kSide; ++j) of[j] = queries + list[j] * plane_shape(kBits).query_words;
  const auto outside = Sums<kBits, kSide>(tables, of).outside();
  const Plane ones = _mm512_set1_epi64(-1);
  for (int j = 0; j < kSide; ++j) {  // without a branch: a mispredicted one costs half as much as the sums
    hits[n_hits] = list[j];
    _mm512_store_si512(masks + 8 * n_hits, _mm512_xor_si512(outside.of[j], ones));
    n_hits += _mm512_cmpneq_epi64_mask(outside.of[j], ones) != 0;
  }
  return n_hits;
}

template <int kBits>
int64_t filter(const uint8_t* tables, const uint8_t* query_bytes, const uint16_t* list, int64_t n, uint16_t* hits,
               uint64_t* masks) {
  const auto* queries = reinterpret_cast<const uint64_t*>(query_bytes);
  int64_t n_hits = 0, i = 0;
  for (; i + 2 <= n; i += 2) n_hits = filter_some<kBits, 2>(tables, queries, list + i, n_hits, hits, masks);
  return i < n ? filter_some<kBits, 1>(tables, queries, list + i, n_hits, hits, masks) : n_hits;
}

template <int kBits>
Key* keys(const PlaneBlock& block, const uint64_t* mask, const uint8_t* allowed, const uint64_t* code, Key* found) {
  Plane inside = _mm512_load_si512(mask);
  if (allowed) inside = _mm512_and_si512(inside, _mm512_loadu_si512(allowed));
  alignas(64) uint64_t words[8];
  _mm512_store_si512(words, inside);
  for (unsigned left = _mm512_test_epi64_mask(inside, inside); left; left &= left - 1) {
    const int64_t at = 64 * __builtin_ctz(left);
    found = append_keys<kBits>(block, at, words[at / 64], code, found);
  }
  return found;
}

template <int kBits>
constexpr PlaneFilterKernels plane_filter_kernels() {
  constexpr PlaneShape kShape = plane_shape(kBits);
  return {kBits,           kPlaneItems,      512 * kShape.n_tables, 8 * kShape.query_words, set_code<kBits>,
          set_bound<kBits>, tabulate<kBits>, filter<kBits>,         keys<kBits>};
}

}  // namespace

extern const PlaneFilterKernels kAvx512PlaneFilter32, kAvx512PlaneFilter64, kAvx512PlaneFilter128,
    kAvx512PlaneFilter256, kAvx512PlaneFilter512;
const PlaneFilterKernels kAvx512PlaneFilter32 = plane_filter_kernels<32>();
const PlaneFilterKernels kAvx512PlaneFilter64 = plane_filter_kernels<64>();
const PlaneFilterKernels kAvx512PlaneFilter128 = plane_filter_kernels<128>();
const PlaneFilterKernels kAvx512PlaneFilter256 = plane_filter_kernels<256>();
const PlaneFilterKernels kAvx512PlaneFilter512 = plane_filter_kernels<512>();

}  // namespace dshc::cpu
