// hamming_distance, hamming_topk, hamming_radius and hamming_histogram against the sorted list of all items.
#include <limits>

#include "../core/hamming_distance.h"
#include "../core/hamming_histogram.h"
#include "../core/hamming_radius.h"
#include "../core/hamming_topk.h"
#include "ranking_case.h"

namespace dshc::test {
namespace {

void check_distance(const RankingCase& c) {
  Exact<int32_t> wanted(c.n_query * c.n_db);
  for (int64_t q = 0; q < c.n_query; ++q) {
    for (int64_t i = 0; i < c.n_db; ++i) wanted[q * c.n_db + i] = c.count(q, i);
  }
  Pairs pairs = c.pairs();
  pairs.allowed = nullptr;  // the full matrix knows no mask
  on_every_path([&](int n_threads) {
    Exact<int32_t> counts(wanted.size());
    cpu::hamming_distance(pairs, counts.data(), n_threads);
    expect_equal("hamming_distance", counts, wanted);
  });
}

void check_topk(const RankingCase& c, const Ranked& ranked, int64_t k) {
  Exact<int32_t> wanted_counts(c.n_query * k);
  Exact<int64_t> wanted_indices(c.n_query * k);
  for (int64_t q = 0; q < c.n_query; ++q) {
    const auto& items = ranked[static_cast<size_t>(q)];
    for (int64_t i = 0; i < k; ++i) {
      const bool there = i < static_cast<int64_t>(items.size());
      const int32_t none = c.score == Score::hamming ? std::numeric_limits<int32_t>::max() : -1;
      wanted_counts[q * k + i] = there ? items[static_cast<size_t>(i)].count : none;
      wanted_indices[q * k + i] = there ? items[static_cast<size_t>(i)].index : -1;
    }
  }
  on_every_path([&](int n_threads) {
    Exact<int32_t> counts(wanted_counts.size());
    Exact<int64_t> indices(wanted_indices.size());
    cpu::hamming_topk(c.pairs(), k, counts.data(), indices.data(), n_threads);
    expect_equal("hamming_topk", counts, wanted_counts);
    expect_equal("hamming_topk", indices, wanted_indices);
  });
}

void check_radius(const RankingCase& c, const Ranked& ranked, int64_t radius) {
  std::vector<int64_t> wanted_offsets = {0}, wanted_indices;
  std::vector<int32_t> wanted_counts;
  for (const auto& items : ranked) {
    for (const Item& item : items) {
      if (c.score == Score::hamming ? item.count > radius : item.count < radius) continue;
      wanted_indices.push_back(item.index);
      wanted_counts.push_back(item.count);
    }
    wanted_offsets.push_back(static_cast<int64_t>(wanted_indices.size()));
  }
  on_every_path([&](int n_threads) {
    const Pairs pairs = c.pairs();
    cpu::RadiusSearch search(pairs, radius, n_threads);
    expect_equal("hamming_radius", std::vector<int64_t>{search.n_found()}, std::vector<int64_t>{wanted_offsets.back()});
    Exact<int64_t> offsets(c.n_query + 1), indices(wanted_offsets.back());
    Exact<int32_t> counts(wanted_offsets.back());
    search.write(offsets.data(), indices.data(), counts.data(), n_threads);
    expect_equal("hamming_radius", offsets, wanted_offsets);
    expect_equal("hamming_radius", indices, wanted_indices);
    expect_equal("hamming_radius", counts, wanted_counts);
  });
}

// n_bits below the largest count: what lies beyond falls into the last column.
void check_histogram(const RankingCase& c, const Ranked& ranked, int32_t n_bits) {
  const int64_t width = n_bits + 1;
  Exact<int64_t> wanted_items(c.n_query * width), wanted_relevant(c.n_query * width);
  for (int64_t q = 0; q < c.n_query; ++q) {
    for (const Item& item : ranked[static_cast<size_t>(q)]) {
      const int64_t column = q * width + std::min(item.count, n_bits);
      ++wanted_items[column];
      wanted_relevant[column] += item.relevant;
    }
  }
  on_every_path([&](int n_threads) {
    Exact<int64_t> items(wanted_items.size()), relevant(wanted_items.size());
    cpu::hamming_histogram(c.pairs(), c.relevance(), n_bits, items.data(), relevant.data(), n_threads);
    expect_equal("hamming_histogram", items, wanted_items);
    expect_equal("hamming_histogram", relevant, wanted_relevant);
  });
}

void check(const RankingCase& c, int turn) {
  const Ranked ranked = rank(c);
  check_distance(c);
  check_topk(c, ranked, 1);
  if (c.n_db > 2) check_topk(c, ranked, c.n_db / 2);
  if (c.n_db > 1) check_topk(c, ranked, c.n_db);
  const int64_t top = 8 * c.n_bytes;
  const int64_t radii[] = {top / 2, 0, top / 3, top, top / 2 + 1, top + 100};
  for (const int64_t radius : {radii[turn % 6], radii[(turn + 1) % 6]}) check_radius(c, ranked, radius);
  check_histogram(c, ranked, 8 * c.n_bytes - turn % 8);
}

}  // namespace

void test_ranking() {
  Random random(2);
  int turn = 0;
  for (const int32_t n_bytes : kBytes) {
    for (const int64_t n_db : kItems) {
      for (const Score score : kScores) {
        for (const Mask mask : {Mask::none, Mask::shared, Mask::per_query}) {
          constexpr int32_t kWords[] = {0, 1, 3};
          const int64_t n_query = n_db < 100 ? (turn % 5 == 0 ? 19 : 3) : 2;
          ++turn;
          check(RankingCase(random, n_bytes, n_query, n_db, score, mask, kWords[turn / 3 % 3],
                            static_cast<Codes>(turn % 7 % 3)),
                turn);
        }
      }
    }
  }
  // Work enough that three threads share it: by groups of queries, and by shards of the database, whose answers
  // are merged.
  check(RankingCase(random, 33, 40, 5000, Score::hamming, Mask::shared, 1, Codes::extreme), 0);
  for (const int32_t n_bytes : {13, 16}) {
    for (const Score score : kScores) {
      ++turn;
      check(RankingCase(random, n_bytes, 2, 70001, score, Mask::per_query, 0, static_cast<Codes>(turn % 2)), turn);
    }
  }
  // So many queries that histograms arrange the database for them.
  for (const int32_t n_bytes : kManyBytes) {
    for (const Score score : kScores) {
      constexpr int32_t kWords[] = {0, 3, 1, 0, 1};
      ++turn;
      const RankingCase c(random, n_bytes, 120, kManyItems[turn % 6], score, static_cast<Mask>(turn % 7 % 3),
                          kWords[turn % 5], static_cast<Codes>(turn % 11 % 3));
      check_histogram(c, rank(c), 8 * n_bytes - turn % 8);
    }
  }
  // So many that top-k and radius filter by bit planes: blocks of 512 items or fewer and a rest, groups for three threads.
  std::vector<int32_t> widths = {41, 48, 61, 64, 95, 128};
  for (int32_t n_bytes = 1; n_bytes <= 33; ++n_bytes) widths.push_back(n_bytes);
  for (const int32_t n_bytes : widths) {
    constexpr int64_t kItemsOfMany[] = {895, 896, 1408, 2047, 5003};
    ++turn;
    const RankingCase c(random, n_bytes, turn % 2 ? 65 : 140, kItemsOfMany[turn % 5],
                        turn % 6 ? Score::hamming : Score::overlap, static_cast<Mask>(turn % 7 % 3), 0,
                        static_cast<Codes>(turn % 11 % 3));
    const Ranked ranked = rank(c);
    for (const int64_t k : {int64_t{1}, int64_t{10}, c.n_db / 3, c.n_db}) check_topk(c, ranked, k);
    for (int64_t radius = turn % 3; radius <= 8 * n_bytes; radius += 1 + n_bytes / 2) check_radius(c, ranked, radius);
  }
  // So many that top-k and radius filter by nibbles: tiles of 128 items and a rest, an odd query.
  for (int32_t n_bytes = 1; n_bytes <= 33; ++n_bytes) {
    constexpr int64_t kItemsOfTiles[] = {127, 128, 1000, 2175, 5003};
    ++turn;
    const RankingCase c(random, n_bytes, 13, kItemsOfTiles[turn % 5], kScores[turn % 2],
                        static_cast<Mask>(turn % 7 % 3), 0, static_cast<Codes>(turn % 11 % 3));
    const Ranked ranked = rank(c);
    for (const int64_t k : {int64_t{1}, int64_t{10}, c.n_db / 3, c.n_db}) check_topk(c, ranked, k);
    const int32_t bits = 8 * n_bytes;
    for (const int64_t radius : {0, bits / 3, bits / 2, bits - 1, bits}) check_radius(c, ranked, radius);
  }
  check(RankingCase(random, 8, 0, 10, Score::hamming, Mask::none, 0, Codes::extreme), 0);  // no queries
  finish_group("ranking");
}

}  // namespace dshc::test
