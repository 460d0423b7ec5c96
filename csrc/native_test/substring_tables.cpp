// Substring tables: built, checked and searched, against the sorted list of all items; and what a call chooses, in words.
#include "../core/substring_tables.h"

#include <tuple>

#include "../core/partition_rows.h"
#include "../cpu/call/table_plan.h"
#include "../cpu/search/table_walk.h"
#include "searches.h"

namespace dshc::test {
namespace {

struct Tables {
  Exact<uint32_t> offsets, items;
  SubstringTables view;

  Tables(const RankingCase& c, const Partition& equal, int32_t n_tables, int n_threads) {
    view.n_tables = n_tables;
    view.n_bits = 8 * c.n_bytes;
    view.n_codes = equal.n_parts > 0 ? equal.n_parts : c.n_db;
    int64_t n_offsets = 0;
    for (int32_t t = 0; t < n_tables; ++t) n_offsets += (int64_t{1} << view.width(t)) + 1;
    offsets = Exact<uint32_t>(n_offsets);
    items = Exact<uint32_t>(n_tables * view.n_codes);
    view.offsets = offsets.data();
    view.items = items.data();
    cpu::build_substring_tables(c.database.data(), c.n_bytes, equal, view, offsets.data(), items.data(), n_threads);
  }
};

void check_search(const RankingCase& c, bool parted) {
  Exact<int64_t> members(c.n_db), offsets(c.n_db + 1);
  Partition equal{};
  if (parted) {
    equal = {members.data(), offsets.data(), 0};
    equal.n_parts = cpu::partition_rows(c.database.data(), c.n_db, c.n_bytes, c.n_db, members.data(), offsets.data(), 1);
  }
  const Ranked ranked = rank(c);
  const int32_t n_tables = c.n_bytes;  // of a byte each: distant items are found in reasonable time
  on_every_path([&](int n_threads) {
    Tables tables(c, equal, n_tables, n_threads);
    const auto fault = [&] {
      return static_cast<int32_t>(
          cpu::check_substring_tables(c.database.data(), c.n_bytes, c.n_db, equal, tables.view, n_threads));
    };
    expect_same("tables", 0, fault(), 0);
    Pairs pairs = c.pairs();
    pairs.equal_codes = equal;
    pairs.tables = tables.view;
    pairs.table_use = TableUse::always;
    expect_searches("by tables", c, ranked, pairs, n_threads);
    tables.items[0] ^= 1;
    expect_same("tables", 1, fault(), static_cast<int32_t>(cpu::TableFault::items));
    tables.items[0] ^= 1;
    tables.offsets[tables.offsets.size() - 1] ^= 1;
    expect_same("tables", 2, fault(), static_cast<int32_t>(cpu::TableFault::offsets));
    count("tables", 3);
  });
}

// All values of so many bits, once.
void check_balls() {
  for (int32_t bits = 1; bits <= 10; ++bits) {
    for (int32_t from = 0; from <= bits; ++from) {
      for (int32_t to = from; to <= bits + 1; ++to) {
        std::vector<int> seen(size_t{1} << bits);
        double n = 0, wanted = 0;
        for (cpu::Ball ball(bits, from, to); !ball.done(); ++n) ++seen[ball.next()];
        for (int32_t ones = from; ones <= to; ++ones) wanted += cpu::n_values_with(bits, ones);
        for (size_t v = 0; v < seen.size(); ++v) {
          const int32_t ones = __builtin_popcountll(v);
          expect_same("values near", static_cast<int64_t>(v), seen[v], ones >= from && ones <= to ? 1 : 0);
        }
        expect_same("values near", -1, n, wanted);
        count("values near", static_cast<int64_t>(n));
      }
    }
  }
}

void expect_text(const std::string& got, const std::string& wanted) {
  if (got != wanted) fail("plan", 0, '"' + got + '"', '"' + wanted + '"');
  count("plan", 1);
}

void check_plans() {
  const cpu::Level& level = cpu::chosen_level();
  const std::string name = std::string(level.name) + ": ";
  const uint32_t nothing = 0;
  Pairs pairs{nullptr, nullptr, 1000, 1'000'000, 8, Score::hamming, nullptr, 0};
  pairs.tables = {&nothing, &nothing, 4, 64, 1'000'000};
  const auto topk = [&](const Pairs& some, int n_threads = 1, int64_t k = 10) {
    return text(cpu::plan_tables_topk(some, k, level, n_threads), some.tables);
  };
  const auto radius = [&](int32_t r) { return text(cpu::plan_tables_radius(pairs, r, level, 1), pairs.tables); };
  const std::string tables = name + "4 substring tables of 16 bits, or scanned; ";
  expect_text(topk(pairs), tables + "32 scouts, then groups of 32, 1 thread");
  expect_text(topk(pairs, 2), tables + "32 scouts, then groups of 32, 2 threads");
  expect_text(topk(pairs, 1, 100'000), name + "scanned");
  // A radius of few look-ups, one of about as many as a scan is worth, and one of far too many.
  expect_text(radius(2), tables + "32 scouts, then groups of 32, 1 thread");
  expect_text(radius(8), tables + "32 scouts, then groups of 32, 1 thread");
  expect_text(radius(12), name + "scanned");
  expect_text(radius(64), name + "scanned");
  Pairs some = pairs;
  some.n_query = 40;
  expect_text(topk(some, 2), tables + "2 scouts, then groups of 5, 2 threads");
  some.tables = {&nothing, &nothing, 3, 64, 1'000'000};
  expect_text(topk(some), name + "3 substring tables of 21 to 22 bits, or scanned; 2 scouts, then groups of 32, 1 thread");
  some.table_use = TableUse::always;
  expect_text(topk(some), name + "3 substring tables of 21 to 22 bits; 2 scouts, then groups of 32, 1 thread");
  some.table_use = TableUse::never;
  expect_text(topk(some), name + "scanned");
  some = pairs;
  some.score = Score::overlap;
  expect_text(topk(some), name + "scanned");
  const uint8_t mask = 0;
  some = pairs;
  some.allowed = &mask;
  expect_text(topk(some), tables + "32 scouts, then groups of 32, 1 thread");
  some.allowed_stride = 1;
  expect_text(topk(some), name + "scanned");
  // Few distinct codes are ranked in no time.
  some = pairs;
  some.tables.n_codes = 310;
  expect_text(topk(some), name + "scanned");
  some.tables = {};
  expect_text(topk(some), name + "scanned");
  for (const auto& [n_bits, n_codes, wanted] : {std::tuple{64, int64_t{1'000'000}, 4}, std::tuple{64, int64_t{100'000'000}, 3},
                                                std::tuple{256, int64_t{1'000'000}, 14}, std::tuple{8, int64_t{1}, 1},
                                                std::tuple{1024, int64_t{1} << 40, 40}}) {
    expect_same("tables", n_bits, cpu::substring_table_count(n_bits, n_codes), wanted);
    count("tables", 1);
  }
}

}  // namespace

void test_substring_tables() {
  Random random(17);
  check_balls();
  on_every_level([&] { check_plans(); });
  int turn = 0;
  for (const int32_t n_bytes : {4, 8, 16}) {
    for (const Codes codes : {Codes::extreme, Codes::clustered, Codes::equal}) {
      for (const Mask mask : {Mask::none, Mask::shared}) {
        for (const int64_t n_db : {1, 7, 300}) {
          // Far items of long codes are found by very many look-ups.
          if (n_bytes == 16 && codes == Codes::extreme) continue;
          ++turn;
          check_search(RankingCase(random, n_bytes, turn % 3 ? 3 : 35, n_db, Score::hamming, mask, 0, codes), turn % 2 == 0);
        }
      }
    }
  }
  finish_group("substring tables");
}

}  // namespace dshc::test
