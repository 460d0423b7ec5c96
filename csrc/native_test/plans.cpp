// What a call chooses, in words: each level's filters by width, score and number of queries, how a call is cut up, and the
// ways to count.
#include "../cpu/call/plan.h"

#include "../cpu/call/call.h"
#include "../cpu/call/count_plan.h"
#include "../cpu/search/search.h"
#include "ranking_case.h"

namespace dshc::test {
namespace {

void expect_text(const std::string& got, const std::string& wanted) {
  if (got != wanted) fail("plan", 0, '"' + got + '"', '"' + wanted + '"');
  count("plan", 1);
}

// A plan reads no codes.
Pairs pairs_of(int64_t n_query, int64_t n_db, int32_t n_bytes, Score score = Score::hamming) {
  g_progress.example = std::to_string(n_bytes) + " bytes, " + std::to_string(n_query) + " x " + std::to_string(n_db);
  return {nullptr, nullptr, n_query, n_db, n_bytes, score, nullptr, 0};
}

std::string topk_text(const Pairs& pairs, int64_t k, int n_threads = 1) {
  return text(cpu::plan_topk(pairs, k, false, cpu::chosen_level(), n_threads));
}

// Up to the first semicolon, without the level.
std::string filters_of(const std::string& plan) {
  const size_t begin = plan.find(": ") + 2;
  return plan.substr(begin, plan.find(';') - begin);
}

int32_t width_of(int32_t n_bytes) { return n_bytes <= 4 ? 4 : (n_bytes + 7) / 8 * 8; }

// From how many queries on codes of so many bytes are filtered by bit planes.
int64_t planes_from(const cpu::Level& level, int32_t n_bytes) {
  constexpr int64_t kNever = INT64_MAX;
  const std::string name = level.name;
  const int32_t width = width_of(n_bytes);
  const bool power = (width & (width - 1)) == 0;
  if (name != "avx512") {
    const bool planes = width <= 32 || width == 48 || width == 96 || (power && width <= 128);
    return !planes ? kNever : name == "generic" ? 8 : name == "avx2" && width > 32 ? 16 : 32;
  }
  const cpu::FilterRow* row = level.filters;  // with bit matrices, or without
  while (row->planes == nullptr && (row->width != 0 || row->max_queries != cpu::kAnyQueries)) ++row;
  return row->planes && power && width <= 64 ? 48 : kNever;
}

// The filter that reads codes of more than a word as they lie, of few queries or where no planes take them; empty: another one.
std::string codes_filter(const std::string& level, int32_t n_bytes, int64_t n_query) {
  if (n_bytes == 12 && (level == "avx512" || level == "avx2")) return n_query <= 4 ? "codes of 96 bits" : "";
  if (n_bytes <= 8) return "";
  const bool avx512 = level == "avx512", vectors = avx512 || level == "avx2", ends_inside = n_bytes % 8 != 0;
  const std::string of = "codes of " + std::to_string((n_bytes + 7) / 8 * 64) + " bits";
  if (ends_inside || n_bytes <= 32) {
    if (n_query > 2) return "";
    return n_bytes <= 32 && (vectors || !ends_inside) ? of : "codes";
  }
  if (vectors && (n_bytes == 64 || n_bytes == 128)) return of;
  if (avx512) {
    const bool own_row = n_bytes <= 56 || n_bytes == 80 || n_bytes == 96 || n_bytes == 112;
    return n_query > (own_row ? 8 : 4) ? "" : own_row ? of : "codes";
  }
  if (vectors) return n_query <= 8 ? "codes" : "";
  return n_query > 2 ? "" : n_bytes == 64 || n_bytes == 128 ? of : "codes";
}

void check_filters() {
  const cpu::Level& level = cpu::chosen_level();
  const bool nibbles = level.name == std::string("avx2");
  struct Width {
    int32_t n_bytes;
    const char* of;  // of popcounts and, up to 32 bytes, of nibbles
  };
  const Width widths[] = {{1, " of 32 bits"},   {3, " of 32 bits"},   {4, " of 32 bits"},   {5, " of 64 bits"},
                          {8, " of 64 bits"},   {9, " of 128 bits"},  {12, " of 128 bits"}, {16, " of 128 bits"},
                          {17, " of 192 bits"}, {24, " of 192 bits"}, {25, " of 256 bits"}, {32, " of 256 bits"},
                          {33, ""},             {48, ""},             {64, ""},             {96, ""},
                          {128, ""},            {512, ""}};
  for (const Width& width : widths) {
    const std::string popcounts = std::string("popcounts") + width.of;
    const std::string of_nibbles = *width.of ? width.of : " of 192 bits";
    for (const Score score : kScores) {
      const auto filters = [&](int64_t n_query) {
        return filters_of(topk_text(pairs_of(n_query, 100'000, width.n_bytes, score), 10));
      };
      const bool tiled = nibbles && width.n_bytes <= 32;
      const std::string with_nibbles = tiled ? "nibbles" + of_nibbles + ", " + popcounts : popcounts;
      const std::string with_planes = "planes of " + std::to_string(8 * width_of(width.n_bytes)) + " bits, " + popcounts;
      for (const int64_t n_query : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 31, 32, 47, 48, 1000}) {
        const std::string codes = codes_filter(level.name, width.n_bytes, n_query);
        const bool in_planes = score == Score::hamming && n_query >= planes_from(level, width.n_bytes);
        const std::string others = n_query < 8 ? popcounts : with_nibbles;
        expect_text(filters(n_query), "filtered by " + (in_planes ? with_planes : codes.empty() ? others : codes));
      }
    }
  }
}

// A table serves every width, score and number of queries, and its last row every bound.
void check_rows() {
  for (int32_t n_bytes = 1; n_bytes <= 512; ++n_bytes) {
    for (const Score score : kScores) {
      for (const int64_t n_query : {1, 7, 8, 15, 16, 31, 32, 47, 48, 5000}) {
        const Pairs pairs = pairs_of(n_query, 1000, n_bytes, score);
        const cpu::Filters filters = cpu::plan_topk(pairs, 1, false, cpu::chosen_level(), 1).walk.filters;
        int n = 0;
        while (n < cpu::Filters::kMost && filters.rows[n]) ++n;
        expect_same("plan rows", n, n > 0 && filters.rows[n - 1]->max_bound == cpu::kNoMaxBound, true);
        expect_same("plan rows", n, filters.rows[n - 1]->planes == nullptr, true);
        const bool planes = filters.by_planes() != nullptr;
        for (int i = 1; i < n; ++i) expect_same("plan rows", n, planes && filters.rows[i]->arrange != nullptr, false);
      }
    }
    count("plan rows", 1);
  }
}

void check_cuts() {
  const std::string level = cpu::chosen_level().name;
  const int64_t from = planes_from(cpu::chosen_level(), 8);
  const bool planes = from <= 60;
  const std::string popcounts = level + ": filtered by popcounts of 64 bits; ", of_many = "blocks of 2048 items; ";
  const std::string in_planes = level + ": filtered by planes of 64 bits, popcounts of 64 bits; ";
  const std::string many = (planes ? in_planes : popcounts) + of_many;
  expect_text(topk_text(pairs_of(5, 0, 8), 1), level + ": nothing to find");
  expect_text(topk_text(pairs_of(0, 5, 8), 1), level + ": nothing to find");
  // One query reads long blocks where they lie, some queries short ones, many make up for a copy.
  const std::string long_in_place = popcounts + "blocks of 16384 items in place; ";
  expect_text(topk_text(pairs_of(1, 100'000, 8), 10), long_in_place + "1 group of 1, 1 shard, 1 thread");
  expect_text(topk_text(pairs_of(5, 100'000, 8), 10),
              popcounts + "blocks of 2048 items in place; 1 group of 5, 1 shard, 1 thread");
  expect_text(topk_text(pairs_of(1, 100'000, 7), 10), popcounts + "blocks of 2048 items; 1 group of 1, 1 shard, 1 thread");
  expect_text(topk_text(pairs_of(60, 100'000, 8), 10), many + "1 group of 60, 1 shard, 1 thread");
  // k is large enough for a guess, and small enough; a fifth of all items, of which a group keeps few queries' worth.
  expect_text(topk_text(pairs_of(60, 100'000, 8), 100),
              many + "1 group of 60, 1 shard, 1 thread; bounds guessed from 3120 items");
  expect_text(topk_text(pairs_of(60, 500'000, 8), 100'000), long_in_place + "30 groups of 2, 1 shard, 1 thread");
  // From a quarter on nothing is filtered, but where every query has a mask of its own.
  const std::string whole = level + ": ranked whole; ";
  expect_text(topk_text(pairs_of(60, 100'000, 8), 25'000), whole + "1 group of 60, 1 shard, 1 thread");
  expect_text(topk_text(pairs_of(60, 100'000, 8), 100'000, 2), whole + "8 groups of 8, 1 shard, 2 threads");
  expect_text(topk_text(pairs_of(1, 3, 8), 7), whole + "1 group of 1, 1 shard, 1 thread");
  const uint8_t mask = 0;
  Pairs masked = pairs_of(1, 100'000, 8);
  masked.allowed = &mask;
  expect_text(topk_text(masked, 100'000), long_in_place + "1 group of 1, 1 shard, 1 thread");
  // Threads share groups, and shards where groups are few.
  expect_text(topk_text(pairs_of(2, 1'000'000, 8), 10, 2), long_in_place + "1 group of 2, 4 shards, 2 threads");
  expect_text(topk_text(pairs_of(1, 1000, 8), 10, 2), long_in_place + "1 group of 1, 1 shard, 1 thread");
  // Queries share blocks, all threads work on one group, and groups come out even; but not where shards are short.
  const std::string copied = (from <= 40 ? in_planes : popcounts) + of_many;
  expect_text(topk_text(pairs_of(40, 1'000'000, 8), 10, 2), copied + "1 group of 40, 2 shards, 2 threads");
  expect_text(topk_text(pairs_of(40, 1'000'000, 8), 10, 6), copied + "1 group of 40, 6 shards, 6 threads");
  if (from > 24 && level != "avx2") {
    expect_text(topk_text(pairs_of(24, 1'000'000, 8), 3000, 2),
                popcounts + "blocks of 2048 items in place; 6 groups of 4, 1 shard, 2 threads; bounds guessed from 16384 items");
    expect_text(topk_text(pairs_of(24, 200'000, 8), 10, 2),
                popcounts + "blocks of 2048 items in place; 6 groups of 4, 1 shard, 2 threads");
  }
  expect_text(text(cpu::plan_radius(pairs_of(1000, 1'000'000, 8), 5, false, cpu::chosen_level(), 2)),
              planes ? many + "2 groups of 500, 1 shard, 2 threads" : many + "8 groups of 128, 1 shard, 2 threads");
  if (from <= 50) {
    // Wide groups and shards for the threads; groups for those that find no shard long enough, or would merge too much.
    expect_text(topk_text(pairs_of(100, 10'000'000, 8), 10, 2), many + "1 group of 100, 2 shards, 2 threads");
    expect_text(topk_text(pairs_of(100, 1'000'000, 8), 10, 6), many + "2 groups of 50, 3 shards, 6 threads");
    expect_text(topk_text(pairs_of(300, 1'000'000, 8), 10, 2), many + "1 group of 300, 2 shards, 2 threads");
    expect_text(topk_text(pairs_of(128, 100'000, 8), 10, 2), many + "2 groups of 64, 1 shard, 2 threads");
    // What shards keep of all queries stays small: none where groups are enough.
    expect_text(topk_text(pairs_of(100'000, 1'000'000, 8), 10, 2), many + "198 groups of 506, 1 shard, 2 threads");
    expect_text(text(cpu::plan_radius(pairs_of(100'000, 10'000'000, 8), 5, false, cpu::chosen_level(), 16)),
                many + "208 groups of 481, 1 shard, 16 threads");
    expect_text(topk_text(pairs_of(1000, 1'000'000, 8), 600, 2),
                many + "4 groups of 250, 1 shard, 2 threads; bounds guessed from 16384 items");
  }
  expect_text(text(cpu::plan_radius(pairs_of(5, 5, 8), 0, false, cpu::chosen_level(), 1)), level + ": nothing to find");
}

void check_counts() {
  const cpu::Level& level = cpu::chosen_level();
  const std::string name = std::string(level.name) + ": ";
  const int32_t id = 0;
  const uint64_t word = 0;
  const Relevance ids{&id, &id, nullptr, nullptr, 0}, words{nullptr, nullptr, &word, &word, 1};
  const auto histograms = [&](const Pairs& pairs, const Relevance& relevance) {
    return text(cpu::plan_histograms(pairs, relevance, 1000, level, 1));
  };
  const auto ranks = [&](const Pairs& pairs, const Relevance& relevance) {
    return text(cpu::plan_ranks(pairs, relevance, 1000, level, 1));
  };
  expect_text(histograms(pairs_of(100, 0, 8), ids), name + "nothing to count");
  expect_text(histograms(pairs_of(31, 8000, 8), ids), name + "row by row; 2 groups of 16, 1 shard, 1 thread");
  expect_text(histograms(pairs_of(32, 8000, 8), ids),
              name + "by distinct codes if they repeat, else row by row; 2 groups of 16, 1 shard, 1 thread");
  const std::string sliced = name + "by distinct codes if they repeat, else bit-sliced";
  const std::string if_few = " if there are at most 1000 labels, else row by row; ";
  expect_text(histograms(pairs_of(64, 8000, 8), ids), sliced + if_few + "4 groups of 16, 1 shard, 1 thread");
  expect_text(histograms(pairs_of(64, 8000, 8), words), sliced);
  expect_text(histograms(pairs_of(64, 8000, 129), words),
              name + "by distinct codes if they repeat, else row by row; 4 groups of 16, 1 shard, 1 thread");
  const uint8_t mask = 0;
  Pairs masked = pairs_of(64, 8000, 8);
  masked.allowed = &mask;
  expect_text(histograms(masked, ids), name + "row by row; 4 groups of 16, 1 shard, 1 thread");
  expect_text(ranks(pairs_of(47, 8000, 8), ids), name + "row by row; 3 groups of 16, 1 shard, 1 thread");
  expect_text(ranks(pairs_of(48, 8000, 8), ids),
              name + "bit-sliced if there are at most 1000 labels, else row by row; 3 groups of 16, 1 shard, 1 thread");
  expect_text(ranks(pairs_of(48, 8000, 8), words), name + "row by row; 3 groups of 16, 1 shard, 1 thread");
}

// The whole way from the codes.
void check_search(const RankingCase& repeated, const RankingCase& different) {
  const cpu::Call call;
  const std::string level = cpu::chosen_level().name;
  expect_text(text(cpu::Search::topk(repeated.pairs(), 10, 1).plan()), level + ": ranked by distinct codes");
  expect_text(text(cpu::Search::radius(repeated.pairs(), 3, 1).plan()), level + ": ranked by distinct codes");
  expect_text(text(cpu::Search::topk(different.pairs(), 10, 1).plan()), topk_text(different.pairs(), 10));
}

}  // namespace

void test_plans() {
  Random random(11);
  const RankingCase repeated(random, 8, 600, 60'000, Score::hamming, Mask::none, 0, Codes::equal);
  const RankingCase different(random, 8, 600, 60'000, Score::hamming, Mask::none, 0, Codes::extreme);
  on_every_level([&] {
    check_filters();
    check_rows();
    check_cuts();
    check_counts();
    check_search(repeated, different);
  });
  finish_group("plans");
}

}  // namespace dshc::test
