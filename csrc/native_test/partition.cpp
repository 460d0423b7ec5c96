// partition_rows against a search through all rows before, and the ops that group: many queries, repeated codes and
// labels, with the partitions found by the op and given to it.
#include "../cpu/repeats/partition.h"

#include <limits>

#include "../core/average_precision.h"
#include "../core/hamming_histogram.h"
#include "ranking_case.h"

namespace dshc::test {
namespace {

std::vector<std::vector<int64_t>> parts_by_search(const Exact<uint8_t>& rows, int64_t n, int64_t row_bytes) {
  std::vector<std::vector<int64_t>> parts;
  for (int64_t i = 0; i < n; ++i) {
    size_t part = 0;
    while (part < parts.size() && std::memcmp(rows.data() + parts[part][0] * row_bytes, rows.data() + i * row_bytes,
                                              static_cast<size_t>(row_bytes)) != 0) {
      ++part;
    }
    if (part == parts.size()) parts.emplace_back();
    parts[part].push_back(i);
  }
  return parts;
}

void check_partition(Random& random, int64_t n, int64_t row_bytes, int64_t n_kinds) {
  g_progress.example = std::to_string(n) + " rows of " + std::to_string(row_bytes) + " bytes, at most " +
                       std::to_string(n_kinds) + " kinds";
  Exact<uint8_t> kinds(n_kinds * row_bytes), rows(n * row_bytes);
  for (int64_t i = 0; i < kinds.size(); ++i) kinds[i] = static_cast<uint8_t>(random.below(3) ? random.next() : 0);
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(rows.data() + i * row_bytes, kinds.data() + random.below(n_kinds) * row_bytes,
                static_cast<size_t>(row_bytes));
  }
  const auto wanted = parts_by_search(rows, n, row_bytes);
  const int64_t n_parts = static_cast<int64_t>(wanted.size());
  Exact<int64_t> members(n);
  for (const int n_threads : {1, 3}) {
    for (const int64_t max_parts : {n_parts, n_parts + 5, n}) {
      if (max_parts < n_parts) continue;
      Exact<int64_t> offsets(max_parts + 1);
      expect_same("partition_rows", 0,
                  cpu::partition_rows(rows.data(), n, row_bytes, max_parts, members.data(), offsets.data(), n_threads),
                  n_parts);
      for (int64_t part = 0; part < n_parts; ++part) {
        const auto& mine = wanted[static_cast<size_t>(part)];
        expect_same("partition_rows", part, offsets[part + 1] - offsets[part], static_cast<int64_t>(mine.size()));
        for (size_t m = 0; m < mine.size(); ++m) {
          expect_same("partition_rows", part, members[offsets[part] + static_cast<int64_t>(m)], mine[m]);
        }
      }
    }
    if (n_parts > 1) {
      Exact<int64_t> offsets(n_parts);
      expect_same("partition_rows", 0,
                  cpu::partition_rows(rows.data(), n, row_bytes, n_parts - 1, members.data(), offsets.data(), n_threads),
                  Partition::kDistinct);
    }
  }
  const int64_t estimate = cpu::estimate_distinct(rows.data(), n, row_bytes);
  if (n <= 1024) expect_same("estimate_distinct", 0, estimate, n_parts);
  // A thousand rows of up to a hundred kinds hold thousands of equal pairs.
  if (n > 1024 && n_kinds <= 100 && (estimate > 2 * n_parts || 4 * estimate < n_parts)) {
    fail("estimate_distinct", 0, text(estimate), text(n_parts));
  }
  count("partition_rows", n);
}

// The same call with the partitions given, where the op has found them itself, to the bit.
void check_given(const RankingCase& c) {
  const auto* ids = reinterpret_cast<const uint8_t*>(c.database_ids.data());
  const auto* words = reinterpret_cast<const uint8_t*>(c.database_words.data());
  const auto codes = cpu::OwnedPartition::find(c.database.data(), c.n_db, c.n_bytes, c.n_db, 1);
  const auto labels = cpu::OwnedPartition::find(c.n_words ? words : ids, c.n_db, c.n_words ? 8 * c.n_words : 4, c.n_db, 1);
  const int64_t width = 8 * c.n_bytes + 1;
  for (const bool distinct : {false, true}) {
    Pairs pairs = c.pairs();
    Relevance relevance = c.relevance();
    pairs.equal_codes = codes.view();
    relevance.equal_labels = labels.view();
    if (distinct) pairs.equal_codes = {nullptr, nullptr, Partition::kDistinct};
    on_every_path([&](int n_threads) {
      Exact<int64_t> items(c.n_query * width), relevant(c.n_query * width), found(items.size()), found_relevant(items.size());
      cpu::hamming_histogram(c.pairs(), c.relevance(), 8 * c.n_bytes, items.data(), relevant.data(), n_threads);
      cpu::hamming_histogram(pairs, relevance, 8 * c.n_bytes, found.data(), found_relevant.data(), n_threads);
      expect_equal("histogram, parts given", found, items);
      expect_equal("histogram, parts given", found_relevant, relevant);
      for (const Ties ties : {Ties::index, Ties::expected, Ties::worst}) {
        Exact<double> alone(c.n_query), given(c.n_query);
        cpu::average_precision(c.pairs(), c.relevance(), c.n_db / 3 + 1, ties, Denominator::min, alone.data(), n_threads);
        cpu::average_precision(pairs, relevance, c.n_db / 3 + 1, ties, Denominator::min, given.data(), n_threads);
        expect_same_bits("average_precision, parts given", given, alone);
        count("average_precision, parts given", c.n_query);
      }
    });
  }
}

}  // namespace

void test_partition() {
  Random random(6);
  for (const int64_t row_bytes : {1, 2, 3, 4, 5, 7, 8, 9, 16, 24, 31}) {
    for (const int64_t n : {1, 2, 63, 700, 1024, 1025, 9000}) {
      for (const int64_t n_kinds : {1, 2, 90, 400}) check_partition(random, n, row_bytes, n_kinds);
    }
  }
  check_partition(random, 40000, 4, 60);  // shared by threads
  check_partition(random, 40000, 24, 60);
  int turn = 0;
  for (const int32_t n_bytes : {1, 8, 20}) {
    for (const Score score : kScores) {
      for (const Codes codes : {Codes::clustered, Codes::equal, Codes::extreme}) {
        ++turn;
        check_given(RankingCase(random, n_bytes, 110, 1100, score, static_cast<Mask>(turn % 3), turn % 4 == 0 ? 2 : 0,
                                codes));
      }
    }
  }
  finish_group("partition");
}

}  // namespace dshc::test
