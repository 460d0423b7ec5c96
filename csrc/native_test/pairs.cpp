// hamming_pairs against all pairs compared bit by bit, its kernel of few codes, and what its plans choose.
#include "../core/hamming_pairs.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../cpu/call/call.h"
#include "../cpu/call/pairs_plan.h"
#include "check.h"

namespace dshc::test {
namespace {

int32_t differing(const uint8_t* a, const uint8_t* b, int32_t n_bytes) {
  int32_t sum = 0;
  for (int32_t bit = 0; bit < 8 * n_bytes; ++bit) sum += ((a[bit / 8] ^ b[bit / 8]) >> (bit % 8)) & 1;
  return sum;
}

// Some codes are copies of others with a few bits changed.
Exact<uint8_t> some_codes(Random& random, int64_t n, int32_t n_bytes, int32_t stride) {
  Exact<uint8_t> codes(n * stride);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t like = i > 0 && random.below(2) == 0 ? random.below(i) : -1;
    for (int32_t b = 0; b < n_bytes; ++b) {
      codes[i * stride + b] = like >= 0 ? codes[like * stride + b] : static_cast<uint8_t>(random.next());
    }
    for (int64_t flips = random.below(4); like >= 0 && flips > 0; --flips) {
      const int64_t bit = random.below(8 * n_bytes);
      codes[i * stride + bit / 8] = static_cast<uint8_t>(codes[i * stride + bit / 8] ^ 1 << bit % 8);
    }
  }
  return codes;
}

void check_few(Random& random) {
  for (const int32_t stride : {8, 16, 24, 32, 40, 512}) {
    for (const int64_t n : {1, 2, 3, 15, 32}) {
      const Exact<uint8_t> codes = some_codes(random, n, stride, stride);
      for (const int32_t limit : {0, 1, 3, 4 * stride, 8 * stride + 1}) {
        g_progress.example = "stride " + std::to_string(stride) + ", n " + std::to_string(n) + ", limit " + std::to_string(limit);
        std::vector<int64_t> wanted;
        for (int64_t a = 0; a < n; ++a) {
          for (int64_t b = a + 1; b < n; ++b) {
            const int32_t count = differing(codes.data() + a * stride, codes.data() + b * stride, stride);
            if (count < limit) wanted.insert(wanted.end(), {a, b, count});
          }
        }
        on_every_level([&] {
          Exact<cpu::ClosePair> pairs(n * (n - 1) / 2);
          const int64_t n_found = cpu::chosen_level().rank->pairs_below(codes.data(), n, stride, static_cast<uint16_t>(limit),
                                                                        pairs.data());
          std::vector<int64_t> found;
          for (int64_t p = 0; p < n_found; ++p) found.insert(found.end(), {pairs[p].first, pairs[p].second, pairs[p].count});
          expect_equal("kernel pairs_below", found, wanted);
        });
      }
    }
  }
}

void check_search(Random& random, int64_t n, int32_t n_bytes, int32_t stride) {
  const Exact<uint8_t> codes = some_codes(random, n, n_bytes, stride);
  std::vector<std::vector<std::pair<int32_t, int64_t>>> rows(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) {
      rows[static_cast<size_t>(i)].emplace_back(differing(codes.data() + i * stride, codes.data() + j * stride, n_bytes), j);
    }
    std::sort(rows[static_cast<size_t>(i)].begin(), rows[static_cast<size_t>(i)].end());
  }
  for (const int64_t radius : {int64_t{0}, int64_t{2}, int64_t{3 * n_bytes}, int64_t{8 * n_bytes - 1}, int64_t{1} << 31}) {
    g_progress.example = std::to_string(n) + " codes of " + std::to_string(n_bytes) + " bytes, radius " + std::to_string(radius);
    std::vector<int64_t> wanted_offsets{0}, wanted_indices;
    std::vector<int32_t> wanted_distances;
    for (const auto& row : rows) {
      for (const auto& [distance, j] : row) {
        if (distance > radius) break;
        wanted_indices.push_back(j);
        wanted_distances.push_back(distance);
      }
      wanted_offsets.push_back(static_cast<int64_t>(wanted_indices.size()));
    }
    on_every_path([&](int n_threads) {
      Exact<int64_t> offsets(n + 1);
      cpu::PairSearch search({codes.data(), n, n_bytes, stride}, radius, offsets.data(), n_threads);
      Exact<int64_t> indices(search.n_found());
      Exact<int32_t> distances(search.n_found());
      search.write(indices.data(), distances.data(), n_threads);
      expect_equal("hamming_pairs", offsets, wanted_offsets);
      expect_equal("hamming_pairs", indices, wanted_indices);
      expect_equal("hamming_pairs", distances, wanted_distances);
    });
  }
}

std::string plan_text(int64_t n, int32_t n_bytes, int64_t radius, int n_threads = 1) {
  g_progress.example = std::to_string(n) + " codes of " + std::to_string(n_bytes) + " bytes, radius " + std::to_string(radius);
  return text(cpu::plan_pairs({nullptr, n, n_bytes, n_bytes}, radius, cpu::chosen_level(), n_threads));
}

void expect_begin(const std::string& got, const std::string& wanted) {
  if (got.compare(0, wanted.size(), wanted) != 0) fail("plan of pairs", 0, '"' + got + '"', '"' + wanted + "...\"");
  count("plan of pairs", 1);
}

void check_plans() {
  const std::string level = std::string(cpu::chosen_level().name) + ": ";
  expect_begin(plan_text(0, 8, 2), level + "nothing to find");
  expect_begin(plan_text(1, 8, 2), level + "nothing to find");
  // One part more than bits may differ, as long as that leaves items apart; at the radius of all there is nothing to group.
  expect_begin(plan_text(2'000'000, 32, 2), level + "by 3 parts up to 6.7e+11 pairs; else filtered by ");
  expect_begin(plan_text(2'000'000, 32, 0, 2), level + "by 1 part up to ");
  expect_begin(plan_text(1'000'000, 8, 5), level + "by 6 parts up to ");
  for (const int64_t radius : {12, 63, 64, 1000}) {
    expect_begin(plan_text(1'000'000, 8, radius), level + "filtered by ");
  }
  expect_begin(plan_text(100, 64, 2), level + "by 3 parts up to ");
  expect_begin(plan_text(100, 64, 30), level + "filtered by ");
  // Every group of codes is compared with all from its first one on: no shards, whatever the threads.
  for (const int n_threads : {1, 7}) {
    const std::string blocks = plan_text(50'000, 8, 20, n_threads);
    if (blocks.find(", 1 shard, ") == std::string::npos) fail("plan of pairs", n_threads, blocks, "1 shard");
  }
}

}  // namespace

void test_pairs() {
  Random random(12);
  check_few(random);
  for (const int32_t n_bytes : {1, 3, 4, 5, 8, 11, 16, 31, 32, 33, 64, 127, 512}) {
    check_search(random, n_bytes > 64 ? 60 : 150, n_bytes, n_bytes);
    check_search(random, 40, n_bytes, n_bytes <= 4 ? 4 : (n_bytes + 7) / 8 * 8);
  }
  for (const int64_t n : {0, 1, 2}) check_search(random, n, 5, 5);
  check_search(random, 1500, 4, 4);
  on_every_level(check_plans);
  finish_group("pairs");
}

}  // namespace dshc::test
