#include "table_plan.h"

#include <algorithm>

#include "blocks.h"

namespace dshc::cpu {
namespace {

constexpr double kFree = 1e300;  // ns of a scan, where the tables are asked whatever it costs

// A scan, in ns per word of a pair, by the number of queries; measured on one thread of a Zen 5 with AVX-512, top-k with k = 10
// and radius 2, 32 to 1,024 bits. Other levels take longer, so that their tables are asked less often than would pay.
constexpr double kScanMany = 0.02;      // by bit planes
constexpr double kScanManyLong = 0.035; // codes over 128 bits
constexpr double kScanSome = 0.055;
constexpr double kScanFew = 0.11, kScanFewFar = 0.29;  // in the third-level cache; beyond
constexpr int64_t kRepeats = 8;         // items per code, from which a scan is one of the distinct codes
constexpr double kScanCode = 0.1;       // then ns for each of these, to choose among them, and for each word of one
constexpr double kScanCodeWord = 0.06, kScanCodeWordFar = 0.29;
constexpr int64_t kCentersNear = 8;     // centers whose codes are compared

// Look-ups, likewise, of 1,000,000 codes in 4 tables and of 10,000,000 and 100,000,000 in 3: a value, with the misses of its
// offsets and its list; an item of a list, whose code is a miss once all do not fit into the third-level cache.
constexpr int64_t kCacheBytes = 32 << 20;
constexpr double kProbe = 20.0;
constexpr double kCandidate = 1.7, kCandidateFar = 5.0;
constexpr double kCandidateWord = 0.3;   // each word of a code
constexpr double kAnswer = 15.0;         // to know whether another table has led to it, and to sort it in
constexpr double kQuery = 150.0;         // to begin with a query

constexpr int64_t kFewestCodes = 2048;   // fewer are scanned in the time of a few cache misses
// Of a call's scan the scouts may cost so much, and a scout so much of its own. It is lost where they are scanned in the end,
// and what they read has left less of the database in the cache.
constexpr double kLost = 0.125, kScoutBudget = 0.3;
constexpr double kBudget = 0.75;         // of a scan: a query that wants more had better be scanned
constexpr int64_t kQueriesPerScout = 16, kMostScouts = 32;

double scan_nanoseconds(const Pairs& pairs, int n_threads) {
  const WordShape shape(pairs.n_bytes);
  const double words = shape.word_bytes == 4 ? 0.5 : shape.n_words;
  const bool cached = pairs.n_db * shape.code_bytes() <= kCacheBytes;
  const double word = pairs.n_query >= kManyQueries   ? (shape.n_words <= 2 ? kScanMany : kScanManyLong)
                      : pairs.n_query >= kSomeQueries ? kScanSome
                                                      : (cached ? kScanFew : kScanFewFar);
  const bool grouped = !pairs.allowed && pairs.tables.n_codes <= pairs.n_db / kRepeats;
  const double code_word = pairs.tables.n_codes * shape.code_bytes() <= kCacheBytes ? kScanCodeWord : kScanCodeWordFar;
  // Of codes around centers, the centers and the codes around a few of these.
  const PartCodes* distinct = pairs.equal_codes.distinct;
  const int64_t n_centers = distinct ? distinct->n_centers : 0;
  const int64_t n_codes = n_centers > 0 ? n_centers + kCentersNear * (pairs.tables.n_codes / n_centers) : pairs.tables.n_codes;
  const double whole = grouped ? (kScanCode + code_word * words) * static_cast<double>(n_codes)
                               : word * words * static_cast<double>(pairs.n_db);
  // Threads share the scan of a query, but not its look-ups.
  return whole * static_cast<double>(std::min<int64_t>(pairs.n_query, n_threads)) / n_threads;
}

TablePlan plan_tables(const Pairs& pairs, const Level& level, int n_threads) {
  TablePlan plan{};
  plan.level = &level;
  const SubstringTables& tables = pairs.tables;
  const bool may = tables.n_tables > 0 && pairs.table_use != TableUse::never && pairs.n_query > 0;
  // A mask for each query, which a scan reads anyway, would have to be copied for those that are given up.
  if (!may || pairs.score != Score::hamming || (pairs.allowed && pairs.allowed_stride != 0)) return plan;
  constexpr int64_t kGroup = 32, kTasksPerThread = 4;
  plan.n_scouts = std::clamp<int64_t>(pairs.n_query / kQueriesPerScout, 1, kMostScouts);
  const int64_t share = n_threads == 1 ? pairs.n_query : divide_up(pairs.n_query, kTasksPerThread * n_threads);
  plan.group = std::min(share, kGroup);
  plan.n_threads = n_threads;
  const int64_t code_bytes = WordShape(pairs.n_bytes).code_bytes();
  const bool far = tables.n_codes * (code_bytes + 4 * tables.n_tables) > kCacheBytes;
  plan.probe = kProbe;
  // A code that is found brings its items along; a scan of distinct codes takes them over in whole lists.
  plan.answer = kAnswer * static_cast<double>(std::max<int64_t>(1, pairs.n_db / std::max<int64_t>(1, tables.n_codes)));
  plan.candidate = (far ? kCandidateFar : kCandidate) + kCandidateWord * static_cast<double>(code_bytes / 8);
  if (pairs.table_use == TableUse::always) {
    plan.scan = plan.scout_budget = plan.budget = kFree;
    plan.asks = true;
  } else if (tables.n_codes >= kFewestCodes) {
    plan.scan = scan_nanoseconds(pairs, n_threads);
    plan.budget = kBudget * plan.scan;
    const double share_of_scouts = kLost * static_cast<double>(pairs.n_query) / static_cast<double>(plan.n_scouts);
    plan.scout_budget = std::min(kScoutBudget, share_of_scouts) * plan.scan;
    plan.asks = kQuery < plan.budget;
  }
  return plan;
}

}  // namespace

double n_values_with(int32_t bits, int32_t ones) {
  if (ones < 0 || ones > bits) return 0.0;
  double n = 1.0;
  for (int32_t i = 0; i < ones; ++i) n = n * (bits - i) / (i + 1);
  return n;
}

TablePlan plan_tables_topk(const Pairs& pairs, int64_t k, const Level& level, int n_threads) {
  TablePlan plan = plan_tables(pairs, level, n_threads);
  // Items of a code come along with it, so that k of them may be one code's.
  plan.asks = plan.asks && kQuery + static_cast<double>(k) * kAnswer < plan.budget;
  return plan;
}

TablePlan plan_tables_radius(const Pairs& pairs, int32_t radius, const Level& level, int n_threads) {
  TablePlan plan = plan_tables(pairs, level, n_threads);
  if (!plan.asks || pairs.table_use == TableUse::always) return plan;
  double probes = 0.0, candidates = 0.0;  // as if codes were spread evenly
  for (int32_t t = 0; t < pairs.tables.n_tables; ++t) {
    const int32_t width = pairs.tables.width(t);
    double values = 0.0;
    for (int32_t ones = 0; ones <= table_radius(radius, pairs.tables.n_tables, t); ++ones) values += n_values_with(width, ones);
    probes += values;
    candidates += values * static_cast<double>(pairs.tables.n_codes) / static_cast<double>(int64_t{1} << width);
  }
  plan.asks = kQuery + probes * plan.probe + candidates * plan.candidate < plan.budget;
  return plan;
}

std::string text(const TablePlan& plan, const SubstringTables& tables) {
  const std::string words = std::string(plan.level->name) + ": ";
  if (!plan.asks) return words + "scanned";
  const int32_t least = tables.n_bits / tables.n_tables, most = (tables.n_bits + tables.n_tables - 1) / tables.n_tables;
  const std::string bits = least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most);
  const std::string limit = plan.scan == kFree ? "" : ", or scanned";
  return words + number(tables.n_tables, "substring table") + " of " + bits + " bits" + limit + "; " +
         number(plan.n_scouts, "scout") + ", then groups of " + std::to_string(plan.group) + ", " +
         number(plan.n_threads, "thread");
}

}  // namespace dshc::cpu
