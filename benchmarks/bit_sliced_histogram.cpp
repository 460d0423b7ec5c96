// Histograms of Hamming distances, Q x 2^20 codes, one thread: one increment a pair into 8 tables; one increment for
// two pairs into a table of pairs of distances; bit planes, whose sums are told apart by an AND tree and counted by
// VPOPCNTQ. All histograms are compared with each other, and some with plain counting, before a time is printed. One
// JSON object a line.
#include <cstdio>
#include <cstring>

#include "bit_sliced.h"

constexpr int kQueries = 512;

template <int kBits>
using Histogram = uint32_t[kBits + 1];

FORCE_INLINE V load_codes(const uint8_t* codes, V query) { return _mm512_xor_si512(_mm512_loadu_si512(codes), query); }

template <int kBits>
FORCE_INLINE V broadcast(const uint8_t* code) {
  uint64_t word = 0;
  std::memcpy(&word, code, kBits / 8);
  return kBits == 32 ? _mm512_set1_epi32(static_cast<int>(word)) : _mm512_set1_epi64(static_cast<long long>(word));
}

template <int kBits>
FORCE_INLINE V count(V x) { return kBits == 32 ? _mm512_popcnt_epi32(x) : _mm512_popcnt_epi64(x); }

// ---- one increment a pair
template <int kBits>
__attribute__((noinline)) void plain(const uint8_t* codes, int64_t bytes, const uint8_t* queries,
                                     Histogram<kBits>* out) {
  for (int64_t begin = 0; begin < bytes; begin += 1 << 19) {
    for (int q = 0; q < kQueries; ++q) {
      uint32_t tables[8][kBits + 1] = {};
      const V query = broadcast<kBits>(queries + q * (kBits / 8));
      for (int64_t i = begin; i < begin + (1 << 19); i += 64) {
        const V d = count<kBits>(load_codes(codes + i, query));
        alignas(16) uint64_t lanes[2];
        const __m128i narrow = kBits == 32 ? _mm512_cvtepi32_epi8(d) : _mm512_cvtepi64_epi8(d);
        _mm_store_si128(reinterpret_cast<__m128i*>(lanes), narrow);
        for (int w = 0; w < (kBits == 32 ? 2 : 1); ++w) {
          for (int j = 0; j < 8; ++j) ++tables[j][lanes[w] >> 8 * j & 0xFF];
        }
      }
      for (const auto& table : tables) {
        for (int d = 0; d <= kBits; ++d) out[q][d] += table[d];
      }
    }
  }
}

// ---- one increment for two pairs; 2^16 codes before a uint16 could overflow, folded then
template <int kBits>
__attribute__((noinline)) void in_pairs(const uint8_t* codes, int64_t bytes, const uint8_t* queries,
                                        Histogram<kBits>* out) {
  constexpr int kSide = kBits + 1, kStep = 65536 * kBits / 8, kRowVectors = (kSide + 31) / 32;
  alignas(64) uint16_t table[kSide * kSide + 32];
  constexpr int kLanes = kBits == 32 ? 16 : 8;
  for (int64_t begin = 0; begin < bytes; begin += kStep) {
    for (int q = 0; q < kQueries; ++q) {
      std::memset(table, 0, sizeof(table));
      const V query = broadcast<kBits>(queries + q * (kBits / 8));
      const auto cells = [&](int64_t i) {
        const V a = count<kBits>(load_codes(codes + i, query));
        const V b = count<kBits>(load_codes(codes + i + 64, query));
        return _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_slli_epi64(b, log_2(kBits)));  // a + (kBits + 1) b
      };
      for (int64_t i = begin; i < begin + kStep; i += 128) {
        alignas(32) uint64_t at[kLanes / 4];
        if (kBits == 32) {
          _mm256_store_si256(reinterpret_cast<__m256i*>(at), _mm512_cvtepi32_epi16(cells(i)));
        } else {
          _mm_store_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi64_epi16(cells(i)));
        }
        for (int w = 0; w < kLanes / 4; ++w) {
          for (int j = 0; j < 4; ++j) ++table[at[w] >> 16 * j & 0xFFFF];
        }
      }
      V columns[kRowVectors] = {};
      for (int b = 0; b < kSide; ++b) {
        uint32_t row_sum = 0;
        for (int v = 0; v < kRowVectors; ++v) {
          const __mmask32 inside = kSide - 32 * v >= 32 ? ~0u : (1u << (kSide - 32 * v)) - 1;
          const V row = _mm512_maskz_loadu_epi16(inside, table + b * kSide + 32 * v);
          columns[v] = _mm512_add_epi16(columns[v], row);
          const V low = _mm512_and_si512(row, _mm512_set1_epi32(0xFFFF));
          row_sum += static_cast<uint32_t>(_mm512_reduce_add_epi32(_mm512_add_epi32(low, _mm512_srli_epi32(row, 16))));
        }
        out[q][b] += row_sum;
      }
      alignas(64) uint16_t sums[32 * kRowVectors];
      for (int v = 0; v < kRowVectors; ++v) _mm512_store_si512(sums + 32 * v, columns[v]);
      for (int d = 0; d <= kBits; ++d) out[q][d] += sums[d];
    }
  }
}

// ---- bit planes. Sums of kSpan blocks of a query are kept, then counted eight distances at a time in registers.
constexpr int kSpan = 8, kTile = 128;

template <int kBits>
struct Sum {
  V plane[log_2(kBits) + 1];
};

template <int kBits>
__attribute__((noinline)) void sum_block(const V* tables, const Query<kBits>* queries, Sum<kBits>* sums) {
  for (int q = 0; q < kTile; q += 2) {
    Sums<kBits, 2> adder(tables, queries + q);
    const auto top = adder.top();
    for (int j = 0; j < 2; ++j) {
      V* to = sums[(q + j) * kSpan].plane;
      _mm512_store_si512(to, tables[kBits / 2 * 8 + queries[q + j].parity]);
      for (int w = 1; w < log_2(kBits); ++w) _mm512_store_si512(to + w, adder.sums[w].of[j]);
      _mm512_store_si512(to + log_2(kBits), top.of[j]);
    }
  }
}

template <int kPattern>
FORCE_INLINE V all_three(V x, V y, V z) { return _mm512_ternarylogic_epi64(x, y, z, 1 << kPattern); }

template <int kHigh, int kBits>
FORCE_INLINE V high_part(const V* p) {  // which codes have the distance 8 kHigh + 0..7 (kBits itself looks like 0)
  if constexpr (kBits == 64) return all_three<kHigh>(p[5], p[4], p[3]);
  constexpr int kTable = 3 << 2 * kHigh;  // of p[4] and p[3], whatever the third input is
  return _mm512_ternarylogic_epi64(p[4], p[3], p[3], kBits == 64 ? 0 : kTable & 0xFF);
}

template <int kHigh, int kBits>
FORCE_INLINE void count_eight(const Sum<kBits>* sums, uint32_t* out) {
  V n[8] = {};
  for (int s = 0; s < kSpan; ++s) {
    const V* p = sums[s].plane;
    const V high = high_part<kHigh, kBits>(p);
    const bool outer = kHigh < kBits / 32 || kHigh >= kBits / 8 - kBits / 32;  // often no code at all
    if (outer && _mm512_test_epi64_mask(high, high) == 0) continue;
    const V x = p[2], y = p[1], z = p[0], hx = _mm512_and_si512(high, x), hy = _mm512_and_si512(high, y);
    const V hxy = _mm512_and_si512(hx, y);
    const V parts[8] = {high, _mm512_and_si512(high, z), hy,  _mm512_and_si512(hy, z),  // at least these low bits set
                        hx,   _mm512_and_si512(hx, z),   hxy, _mm512_and_si512(hxy, z)};
    for (int d = 0; d < 8; ++d) n[d] = _mm512_add_epi64(n[d], _mm512_popcnt_epi64(parts[d]));
  }
  for (int bit : {1, 2, 4}) {  // exactly these
    for (int d = 0; d < 8; ++d) n[d] = d & bit ? n[d] : _mm512_sub_epi64(n[d], n[d | bit]);
  }
  transpose_words(n);
  const V sum = _mm512_add_epi64(_mm512_add_epi64(_mm512_add_epi64(n[0], n[1]), _mm512_add_epi64(n[2], n[3])),
                                 _mm512_add_epi64(_mm512_add_epi64(n[4], n[5]), _mm512_add_epi64(n[6], n[7])));
  __m256i* to = reinterpret_cast<__m256i*>(out + 8 * kHigh);
  _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), _mm512_cvtepi64_epi32(sum)));
  if constexpr (kHigh + 1 < kBits / 8) count_eight<kHigh + 1, kBits>(sums, out);
}

template <int kBits>
__attribute__((noinline)) void sliced(const uint8_t* codes, int64_t bytes, const uint8_t* queries,
                                      Histogram<kBits>* out) {
  constexpr int64_t kBlockBytes = kBlock * kBits / 8;
  std::vector<Query<kBits>> encoded;
  for (int q = 0; q < kQueries; ++q) encoded.emplace_back(queries + q * (kBits / 8), kBits - 1);
  Buffer<V> planes(kSpan * kBits), tables(kTableVectors<kBits>);
  Buffer<Sum<kBits>> sums(kTile * kSpan);
  for (int64_t begin = 0; begin < bytes; begin += kSpan * kBlockBytes) {
    for (int s = 0; s < kSpan; ++s) make_planes<kBits>(codes + begin + s * kBlockBytes, planes.data + s * kBits);
    for (int tile = 0; tile < kQueries; tile += kTile) {
      for (int s = 0; s < kSpan; ++s) {
        make_tables<kBits>(planes.data + s * kBits, tables.data);
        sum_block<kBits>(tables.data, &encoded[tile], sums.data + s);
      }
      for (int q = 0; q < kTile; ++q) {
        const Sum<kBits>* own = sums.data + q * kSpan;
        V n_all = _mm512_setzero_si512();
        for (int s = 0; s < kSpan; ++s) {
          n_all = _mm512_add_epi64(n_all, _mm512_popcnt_epi64(own[s].plane[log_2(kBits)]));
        }
        const auto all = static_cast<uint32_t>(_mm512_reduce_add_epi64(n_all));
        out[tile + q][0] -= all, out[tile + q][kBits] += all;
        count_eight<0, kBits>(own, out[tile + q]);
      }
    }
  }
}

template <int kBits>
void time_histograms(const char* name, bool clustered) {
  const size_t bytes = kCodes * kBits / 8;
  auto codes = random_bytes(bytes, 1), queries = random_bytes(kQueries * kBits / 8, 2);
  if (clustered) {  // 100 centers, each bit flipped with probability 1/16; the first 100 queries are the centers
    const auto a = random_bytes(bytes, 3), b = random_bytes(bytes, 4), c = random_bytes(bytes, 5),
               d = random_bytes(bytes, 6);
    const auto flip = [&](size_t i) { return static_cast<uint8_t>(a[i] & b[i] & c[i] & d[i]); };
    for (size_t i = 100 * kBits / 8; i < queries.size(); ++i) queries[i] = queries[i % (100 * kBits / 8)] ^ flip(i);
    for (size_t i = 0; i < bytes; ++i) {
      const size_t center = i / (kBits / 8) * 7919 % 100;
      codes[i] = queries[center * kBits / 8 + i % (kBits / 8)] ^ flip(i);
    }
    std::memcpy(&codes[0], &queries[0], kBits / 8);
    for (int i = 0; i < kBits / 8; ++i) codes[kBits / 8 + i] = queries[i] ^ 0xFF;  // the greatest distance occurs
  }
  std::vector<uint32_t> out[3];
  const auto run = [&](int which, auto kernel) {
    return [&, which, kernel] {
      out[which].assign(kQueries * (kBits + 1), 0);
      kernel(codes.data(), bytes, queries.data(), reinterpret_cast<Histogram<kBits>*>(out[which].data()));
    };
  };
  const auto times = interleave({run(0, plain<kBits>), run(1, in_pairs<kBits>), run(2, sliced<kBits>)}, 5);
  for (int q = 0; q < kQueries; q += 64) {
    std::vector<uint32_t> expected(kBits + 1);
    for (size_t i = 0; i < bytes; i += kBits / 8) {
      int d = 0;
      for (int b = 0; b < kBits / 8; ++b) d += __builtin_popcount(codes[i + b] ^ queries[q * kBits / 8 + b]);
      ++expected[d];
    }
    const bool right = std::equal(expected.begin(), expected.end(), out[0].begin() + q * (kBits + 1));
    if (!right || out[1] != out[0] || out[2] != out[0]) {
      std::fprintf(stderr, "histograms differ: %d bits, query %d\n", kBits, q);
      std::exit(1);
    }
  }
  const double pairs = static_cast<double>(kQueries) * kCodes;
  std::printf("{\"job\": \"histogram\", \"codes\": \"%s\", \"bits\": %d, \"n_query\": %d, \"n_db\": %lld, "
              "\"threads\": 1, \"plain\": %.4g, \"in_pairs\": %.4g, \"sliced\": %.4g}\n",
              name, kBits, kQueries, static_cast<long long>(kCodes), pairs / times[0], pairs / times[1],
              pairs / times[2]);
}

int main() {
  time_histograms<32>("random", false), time_histograms<64>("random", false);
  time_histograms<32>("clustered", true), time_histograms<64>("clustered", true);
}
