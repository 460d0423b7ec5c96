// Experiment: sums of Hamming distances on bit planes (bit_sliced.cpp: filters, bit_sliced_histogram.cpp: histograms;
// bit_sliced.py runs both, docs/results/bit_sliced.md has the verdict). A block is 512 codes, one 512-bit plane a bit.
//
// Of three planes x, y, z of weight 1 the carry (weight 2) is looked up among its 8 sign patterns, the query's three
// bits choosing one; the parity x ^ y ^ z needs no table: it is a further plane of weight 1, and its query bit is the
// XOR of the three. So kBits planes leave kBits / 2 table loads and no adder at weight 1; VPTERNLOG adders do the
// weights above. "distance <= r" is the missing carry out of distance + (kBits - 1 - r): bit 0 of that constant joins
// the last group of three, the others start the sums.
#pragma once
#if !defined(__AVX512VPOPCNTDQ__) || !defined(__AVX512VBMI__) || !defined(__GFNI__)
#error "bit_sliced.h needs AVX-512 with VPOPCNTDQ, VBMI and GFNI (Zen 4, Ice Lake or later) and -march=native"
#endif
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#define FORCE_INLINE __attribute__((always_inline)) inline

using V = __m512i;
constexpr int kBlock = 512;
constexpr int64_t kCodes = 1 << 20;
constexpr int log_2(int x) { return x <= 1 ? 0 : 1 + log_2(x / 2); }
FORCE_INLINE V sum3(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
FORCE_INLINE V carry3(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0xE8); }

template <typename T>
struct Buffer {  // on a cache line, sized once
  T* data;
  explicit Buffer(size_t n) : data(static_cast<T*>(std::aligned_alloc(4096, (n * sizeof(T) + 4095) / 4096 * 4096))) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
};

FORCE_INLINE void transpose_words(V* r) {  // 8 x 8 words of 64 bits
  V a[8], b[8];
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

// Eight words of codes 8 i..8 i + 7 of a block: word w; 32-bit codes pair with the code 256 further on.
template <int kBits>
FORCE_INLINE V code_words(const uint8_t* block, int i, int w) {
  if (kBits == 64) return _mm512_loadu_si512(block + 64 * i);
  if (kBits == 128) {
    const V a = _mm512_loadu_si512(block + 128 * i), b = _mm512_loadu_si512(block + 128 * i + 64);
    const V even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm512_permutex2var_epi64(a, _mm512_add_epi64(even, _mm512_set1_epi64(w)), b);
  }
  const auto half = [](const uint8_t* p) {
    return _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  };
  return _mm512_or_si512(half(block + 32 * i), _mm512_slli_epi64(half(block + 1024 + 32 * i), 32));
}

template <int kBits>
__attribute__((noinline)) void make_planes(const uint8_t* block, V* planes) {
  alignas(64) uint8_t rows[64], columns[64];
  for (int i = 0; i < 64; ++i) rows[8 * (i / 8) + 7 - i % 8] = static_cast<uint8_t>(8 * (i % 8) + i / 8);
  for (int i = 0; i < 64; ++i) columns[i] = static_cast<uint8_t>(8 * (i % 8) + i / 8);
  const V by_byte = _mm512_load_si512(rows), gather = _mm512_load_si512(columns);
  const V diagonal = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201));
  constexpr int kWords = kBits == 128 ? 2 : 1, kGroups = kBits == 32 ? 4 : 8;
  for (int w = 0; w < kWords; ++w) {
    V parts[8][8];  // [byte of the word][64 codes]: 8 planes of 64 bits each
    for (int g = 0; g < kGroups; ++g) {
      V r[8];
      for (int v = 0; v < 8; ++v) {
        const V bytes = _mm512_permutexvar_epi8(by_byte, code_words<kBits>(block, 8 * g + v, w));
        r[v] = _mm512_gf2p8affine_epi64_epi8(diagonal, bytes, 0);
      }
      transpose_words(r);
      for (int j = 0; j < 8; ++j) {
        const V plane_bytes = _mm512_permutexvar_epi8(gather, r[j]);
        (kBits == 32 ? parts[j % 4][4 * (j / 4) + g] : parts[j][g]) = plane_bytes;
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
FORCE_INLINE void all_carries(V x, V y, V z, V* to) {
  to[kPattern] = _mm512_ternarylogic_epi64(x, y, z, carry_table(kPattern));
  if constexpr (kPattern < 7) all_carries<kPattern + 1>(x, y, z, to);
}

template <int kBits>
constexpr int kTableVectors = kBits / 2 * 8 + 2;  // the last two: parity of all planes, and its complement

template <int kBits>
__attribute__((noinline)) void make_tables(const V* planes, V* tables) {
  V queue[kBits + kBits / 2];
  for (int i = 0; i < kBits; ++i) queue[i] = planes[i];
  for (int g = 0; g < kBits / 2; ++g) {
    const V x = queue[3 * g], y = queue[3 * g + 1], z = g == kBits / 2 - 1 ? _mm512_setzero_si512() : queue[3 * g + 2];
    all_carries(x, y, z, tables + 8 * g);
    queue[kBits + g] = sum3(x, y, z);
  }
  tables[kBits / 2 * 8] = queue[kBits + kBits / 2 - 1];
  tables[kBits / 2 * 8 + 1] = _mm512_xor_si512(queue[kBits + kBits / 2 - 1], _mm512_set1_epi64(-1));
}

template <int kBits>
struct Query {
  uint64_t patterns[(kBits / 2 + 15) / 16] = {};  // 3 bits for each table
  uint64_t start[log_2(kBits)] = {};              // of the sums of each weight: all ones or zero
  int parity = 0;
  Query(const uint8_t* code, int radius) {
    uint8_t queue[kBits + kBits / 2];
    for (int i = 0; i < kBits; ++i) queue[i] = code[i / 8] >> (i % 8) & 1;
    const int constant = kBits - 1 - radius;
    for (int g = 0; g < kBits / 2; ++g) {
      const int x = queue[3 * g], y = queue[3 * g + 1], z = g == kBits / 2 - 1 ? constant & 1 : queue[3 * g + 2];
      patterns[g / 16] |= static_cast<uint64_t>(4 * x + 2 * y + z) << 3 * (g % 16);
      queue[kBits + g] = static_cast<uint8_t>(x ^ y ^ z);
    }
    parity = queue[kBits + kBits / 2 - 1];
    for (int i = 0; i < log_2(kBits); ++i) start[i] = 0 - static_cast<uint64_t>(constant >> i & 1);
  }
};

// The sums of several queries side by side: adders depend on each other, and a second query fills the gaps.
template <int kBits, int kSide>
struct Sums {
  struct Planes { V of[kSide]; };
  const uint8_t* tables;
  const Query<kBits>* queries;
  Planes sums[log_2(kBits) + 1];
  uint64_t patterns[kSide];
  int table = 0;
  FORCE_INLINE Sums(const V* t, const Query<kBits>* q) : tables(reinterpret_cast<const uint8_t*>(t)), queries(q) {
    for (int w = 1; w < log_2(kBits); ++w) {
      for (int j = 0; j < kSide; ++j) sums[w].of[j] = _mm512_set1_epi64(static_cast<long long>(q[j].start[w]));
    }
  }
  template <int kWeight>
  FORCE_INLINE Planes take() {  // the next plane of weight 2^kWeight
    Planes out;
    if constexpr (kWeight == 1) {
      const int shift = 3 * (table % 16);
      for (int j = 0; j < kSide; ++j) {
        if (table % 16 == 0) patterns[j] = queries[j].patterns[table / 16];
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
  FORCE_INLINE Planes top() { return take<log_2(kBits)>(); }
};

inline std::vector<uint8_t> random_bytes(size_t n, uint64_t seed) {
  std::mt19937_64 next(seed);
  std::vector<uint8_t> bytes(n);
  for (auto& b : bytes) b = static_cast<uint8_t>(next() >> 32);
  return bytes;
}

// Median seconds of each candidate; they take turns, the first round only warms up.
inline std::vector<double> interleave(const std::vector<std::function<void()>>& candidates, int rounds) {
  std::vector<std::vector<double>> times(candidates.size());
  std::vector<double> medians;
  for (int round = 0; round <= rounds; ++round) {
    for (size_t c = 0; c < candidates.size(); ++c) {
      const auto begin = std::chrono::steady_clock::now();
      candidates[c]();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      if (round) times[c].push_back(took.count());
    }
  }
  for (auto& t : times) std::sort(t.begin(), t.end()), medians.push_back(t[t.size() / 2]);
  return medians;
}
