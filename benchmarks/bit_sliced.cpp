// Hamming filters: bit planes against XOR + VPOPCNT, block by block, Q x 2^20 codes. Every mask of the planes is
// compared with counted distances before anything is timed, and the survivors of all timed runs with each other. One
// JSON object a line.
#include <cstdio>
#include <cstring>
#include <thread>

#include "bit_sliced.h"

constexpr int kFilterBytes = 16384;  // of database codes: half of the first-level cache

// What both filters do with a survivor: its distance, and a sum that does not depend on the order.
template <int kBits>
struct Sink {
  const uint8_t *queries, *codes;
  uint64_t found = 0, check = 0;
  static int distance(const uint8_t* a, const uint8_t* b) {
    int d = 0;
    for (int i = 0; i < kBits / 32; ++i) {
      uint32_t x, y;
      std::memcpy(&x, a + 4 * i, 4), std::memcpy(&y, b + 4 * i, 4);
      d += __builtin_popcount(x ^ y);
    }
    return d;
  }
  void add(int64_t q, int64_t i) {
    const int d = distance(queries + q * (kBits / 8), codes + i * (kBits / 8));
    ++found, check += static_cast<uint64_t>((q + 1) * (i + 1) * (d + 1));
  }
  void add_mask(int64_t q, int64_t first, uint64_t mask) {
    for (; mask; mask &= mask - 1) add(q, first + __builtin_ctzll(mask));
  }
};

template <int kBits>
__attribute__((noinline)) void filter_block(const V* tables, const std::vector<Query<kBits>>& queries, int64_t first,
                                            Sink<kBits>& sink) {
  const V ones = _mm512_set1_epi64(-1);
  for (size_t q = 0; q < queries.size(); q += 2) {
    const auto outside = Sums<kBits, 2>(tables, &queries[q]).top();
    unsigned hit[2];
    for (int j = 0; j < 2; ++j) hit[j] = _mm512_cmpneq_epi64_mask(outside.of[j], ones);
    if (__builtin_expect((hit[0] | hit[1]) != 0, 0)) {
      for (int j = 0; j < 2; ++j) {
        alignas(64) uint64_t words[8];
        _mm512_store_si512(words, outside.of[j]);
        for (; hit[j]; hit[j] &= hit[j] - 1) {
          const int i = __builtin_ctz(hit[j]);
          sink.add_mask(static_cast<int64_t>(q) + j, first + 64 * i, ~words[i]);
        }
      }
    }
  }
}

// The same by popcount: some queries side by side, the byte minimum of the counts of some vectors, one compare.
template <int kBits>
FORCE_INLINE V counts_of(const V* query, const uint8_t* words, int64_t stride, int64_t at) {
  const V first = _mm512_xor_si512(query[0], _mm512_load_si512(words + at));
  if (kBits == 32) return _mm512_popcnt_epi32(first);
  V counts = _mm512_popcnt_epi64(first);
  if (kBits == 128) {
    const V second = _mm512_xor_si512(query[1], _mm512_load_si512(words + stride + at));
    counts = _mm512_add_epi64(counts, _mm512_popcnt_epi64(second));
  }
  return counts;
}

// words: all first words of the codes, then (128 bits) all second ones.
template <int kBits, int kVectors, int kSide>
__attribute__((noinline)) void popcount_block(const uint8_t* words, int64_t n, int64_t n_query, int radius,
                                              int64_t first, Sink<kBits>& sink) {
  constexpr int kWords = kBits == 128 ? 2 : 1, kLanes = kBits == 32 ? 16 : 8;
  const int64_t bytes = n * (kBits / 8) / kWords;
  const V limit = kBits == 32 ? _mm512_set1_epi32(radius) : _mm512_set1_epi64(radius);
  const auto inside = [&](V d) -> unsigned {
    return kBits == 32 ? _mm512_cmple_epu32_mask(d, limit) : _mm512_cmple_epu64_mask(d, limit);
  };
  for (int64_t q = 0; q < n_query; q += kSide) {
    V query[kSide][2];
    for (int j = 0; j < kSide; ++j) {
      uint64_t w[2] = {};
      std::memcpy(w, sink.queries + (q + j) * (kBits / 8), kBits / 8);
      query[j][0] = kBits == 32 ? _mm512_set1_epi32(static_cast<int>(w[0]))
                                : _mm512_set1_epi64(static_cast<long long>(w[0]));
      query[j][1] = _mm512_set1_epi64(static_cast<long long>(w[1]));
    }
    for (int64_t at = 0; at < bytes; at += 64 * kVectors) {
      V least[kSide];
      for (int j = 0; j < kSide; ++j) least[j] = counts_of<kBits>(query[j], words, bytes, at);
#pragma GCC unroll 8
      for (int v = 1; v < kVectors; ++v) {
        for (int j = 0; j < kSide; ++j) {
          least[j] = _mm512_min_epu8(least[j], counts_of<kBits>(query[j], words, bytes, at + 64 * v));
        }
      }
      unsigned hit[kSide], any = 0;
      for (int j = 0; j < kSide; ++j) hit[j] = inside(least[j]), any |= hit[j];
      if (__builtin_expect(any != 0, 0)) {
        for (int j = 0; j < kSide; ++j) {
          for (int v = 0; hit[j] && v < kVectors; ++v) {
            const unsigned mask = inside(counts_of<kBits>(query[j], words, bytes, at + 64 * v));
            sink.add_mask(q + j, first + (at / 64 + v) * kLanes, mask);
          }
        }
      }
    }
  }
}

template <int kBits>
struct Job {
  std::vector<uint8_t> codes = random_bytes(kCodes * kBits / 8, 1), query_codes;
  int64_t n_query;
  int radius, n_threads;
  Buffer<V> planes{kCodes / kBlock * kBits};
  Job(int64_t q, int r, int t) : query_codes(random_bytes(q * kBits / 8, 2)), n_query(q), radius(r), n_threads(t) {}

  Sink<kBits> on_threads(const std::function<void(int64_t, int64_t, Sink<kBits>&)>& range) {
    std::vector<Sink<kBits>> sinks(n_threads, {query_codes.data(), codes.data()});
    std::vector<std::thread> threads;
    for (int t = 0; t < n_threads; ++t) {
      threads.emplace_back([&, t] {
        Sink<kBits> own = sinks[t];  // on the thread's own stack: no cache line is shared
        range(kCodes * t / n_threads, kCodes * (t + 1) / n_threads, own);
        sinks[t] = own;
      });
    }
    for (auto& t : threads) t.join();
    for (int t = 1; t < n_threads; ++t) sinks[0].found += sinks[t].found, sinks[0].check += sinks[t].check;
    return sinks[0];
  }
  Sink<kBits> sliced(bool planes_kept) {
    std::vector<Query<kBits>> queries;
    for (int64_t q = 0; q < n_query; ++q) queries.emplace_back(&query_codes[q * kBits / 8], radius);
    return on_threads([&](int64_t begin, int64_t end, Sink<kBits>& sink) {
      Buffer<V> own(kBits), tables(kTableVectors<kBits>);
      for (int64_t i = begin; i < end; i += kBlock) {
        if (planes_kept) {  // the distances of survivors are counted from the codes
          for (int b = 0; b < kBlock * kBits / 8; b += 64) _mm_prefetch(&codes[i * kBits / 8 + b], _MM_HINT_T1);
        } else {
          make_planes<kBits>(&codes[i * kBits / 8], own.data);
        }
        make_tables<kBits>(planes_kept ? planes.data + i / kBlock * kBits : own.data, tables.data);
        filter_block<kBits>(tables.data, queries, i, sink);
      }
    });
  }
  template <int kVectors, int kSide>
  Sink<kBits> popcount() {
    return on_threads([&](int64_t begin, int64_t end, Sink<kBits>& sink) {
      constexpr int64_t kStep = kFilterBytes / (kBits / 8);
      Buffer<uint8_t> words(kFilterBytes);
      for (int64_t i = begin; i < end; i += kStep) {
        std::memcpy(words.data, &codes[i * kBits / 8], kFilterBytes);
        for (int64_t c = 0; kBits == 128 && c < kStep; ++c) {
          std::memcpy(words.data + 8 * c, &codes[16 * (i + c)], 8);
          std::memcpy(words.data + 8 * (kStep + c), &codes[16 * (i + c) + 8], 8);
        }
        popcount_block<kBits, kVectors, kSide>(words.data, kStep, n_query, radius, i, sink);
      }
    });
  }
};

// Every bit of the masks of some blocks, for every radius. A quarter of the codes are a query with few bits flipped.
template <int kBits>
void check_masks() {
  constexpr int kQueries = 32;
  auto codes = random_bytes(kBlock * kBits / 8, 3);
  const auto queries = random_bytes(kQueries * kBits / 8, 4), flips = random_bytes(kBlock, 5);
  for (int i = 0; i < kBlock; i += 4) {
    std::memcpy(&codes[i * kBits / 8], &queries[i / 4 % kQueries * kBits / 8], kBits / 8);
    if (i % 3) codes[i * kBits / 8 + flips[i] % (kBits / 8)] ^= flips[i + 1];
    for (int b = 0; i % 5 == 0 && b < kBits / 8; ++b) codes[i * kBits / 8 + b] ^= 0xFF;
  }
  Buffer<V> planes(kBits), tables(kTableVectors<kBits>);
  make_planes<kBits>(codes.data(), planes.data);
  make_tables<kBits>(planes.data, tables.data);
  for (int radius = 0; radius < kBits; ++radius) {
    for (int q = 0; q < kQueries; ++q) {
      const Query<kBits> query(&queries[q * kBits / 8], radius);
      alignas(64) uint64_t outside[8];
      _mm512_store_si512(outside, Sums<kBits, 1>(tables.data, &query).top().of[0]);
      for (int i = 0; i < kBlock; ++i) {
        const int d = Sink<kBits>::distance(&queries[q * kBits / 8], &codes[i * kBits / 8]);
        if ((d > radius) != (outside[i / 64] >> (i % 64) & 1)) {
          std::fprintf(stderr, "wrong: %d bits, radius %d, query %d, code %d, distance %d\n", kBits, radius, q, i, d);
          std::exit(1);
        }
      }
    }
  }
}

template <int kBits>
void time_filters(int64_t n_query, int radius, int n_threads) {
  Job<kBits> job(n_query, radius, n_threads);
  for (int64_t b = 0; b < kCodes / kBlock; ++b) {
    make_planes<kBits>(&job.codes[b * kBlock * kBits / 8], job.planes.data + b * kBits);
  }
  std::vector<Sink<kBits>> seen(5, {nullptr, nullptr});
  const auto times = interleave(
      {[&] { seen[0] = job.template popcount<1, 4>(); }, [&] { seen[1] = job.template popcount<4, 2>(); },
       [&] { seen[2] = job.template popcount<8, 2>(); }, [&] { seen[3] = job.sliced(false); },
       [&] { seen[4] = job.sliced(true); }},
      n_query < 512 ? 11 : 7);
  for (const auto& s : seen) {
    if (s.found != seen[0].found || s.check != seen[0].check) {
      std::fprintf(stderr, "survivors differ\n");
      std::exit(1);
    }
  }
  const double pairs = static_cast<double>(n_query) * kCodes;
  std::printf("{\"job\": \"filter\", \"bits\": %d, \"n_query\": %lld, \"n_db\": %lld, \"radius\": %d, \"threads\": %d, "
              "\"survivors_per_pair\": %.3g, \"popcount_compare\": %.4g, \"popcount_min4\": %.4g, "
              "\"popcount_min8\": %.4g, \"sliced\": %.4g, \"sliced_planes_kept\": %.4g}\n",
              kBits, static_cast<long long>(n_query), static_cast<long long>(kCodes), radius, n_threads,
              seen[0].found / pairs, pairs / times[0], pairs / times[1], pairs / times[2], pairs / times[3],
              pairs / times[4]);
  std::fflush(stdout);
}

int main() {
  check_masks<32>(), check_masks<64>(), check_masks<128>();
  for (int64_t n_query : {32, 128, 512, 2048}) {
    for (int n_threads : {1, 2}) {
      time_filters<32>(n_query, 5, n_threads);
      time_filters<64>(n_query, 17, n_threads);
      time_filters<128>(n_query, 43, n_threads);
    }
  }
  for (int n_threads : {1, 2}) {  // ten times the survivors
    time_filters<32>(512, 7, n_threads);
    time_filters<64>(512, 19, n_threads);
    time_filters<128>(512, 46, n_threads);
  }
}
