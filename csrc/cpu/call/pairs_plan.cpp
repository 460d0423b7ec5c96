#include "pairs_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace dshc::cpu {
namespace {

// Measured on one thread with AVX-512, the fastest level. The others are slower at both.
constexpr double kScanItem = 180.0;                         // ns, a code and what it finds
constexpr double kScanWord = 0.03, kScanLongWord = 0.044;   // ns, a word of a pair; of codes past four words
constexpr double kGroupItem = 8.0;                          // ns, an item and a part
constexpr double kGroupMember = 12.0;                       // ns, an item that shares a part: it is put in order and fetched
constexpr double kGroupPair = 3.0;                          // two items of a group, in pairs of the scan
constexpr int64_t kMostItems = int64_t{1} << 32;            // their numbers have 32 bits in groups

double pairs_of(double n) { return n * (n - 1.0) / 2.0; }

// How many pairs share a part if codes are as different as they can be; others share more.
double fewest_pairs(double n, double bits, double n_parts) {
  const double n_groups = std::exp2(std::min(bits / n_parts, 64.0));
  return n_parts * std::max(0.0, n * (n / n_groups - 1.0) / 2.0);
}

}  // namespace

PairsPlan plan_pairs(const CodeRows& codes, int64_t radius, const Level& level, int n_threads) {
  const int32_t bits = 8 * codes.n_bytes;
  const auto limit = static_cast<int32_t>(std::min<int64_t>(radius, bits)) + 1;
  const Pairs pairs{codes.rows, codes.rows, codes.n, codes.n, codes.stride, Score::hamming, nullptr, 0};
  PairsPlan plan{plan_radius(pairs, limit, false, level, n_threads), 0, 0.0};
  if (codes.n < 2) plan.blocks.route = Route::empty;
  if (plan.blocks.route == Route::empty) return plan;
  plan.blocks.tasks.shard = codes.n;
  plan.blocks.tasks.n_shards = 1;
  if (radius >= bits || codes.n > kMostItems) return plan;
  const double n = static_cast<double>(codes.n), n_parts = static_cast<double>(radius + 1);
  const int32_t n_words = WordShape(codes.stride).n_words;
  const double scan_pair = n_words * (n_words <= 4 ? kScanWord : kScanLongWord);
  const double scan = n * kScanItem + pairs_of(n) * scan_pair, grouping = n * n_parts * kGroupItem;
  // Of a pair that shares a part two items are members at the most, and of a part no more than all.
  const double all_members = n * n_parts * kGroupMember, rest = scan - grouping, pair = kGroupPair * scan_pair;
  const double most_pairs = std::max(rest / (2.0 * kGroupMember + pair), (rest - all_members) / pair);
  if (rest <= 0.0 || fewest_pairs(n, bits, n_parts) > most_pairs) return plan;
  plan.n_parts = static_cast<int>(radius + 1);
  plan.most_pairs = most_pairs;
  return plan;
}

std::string text(const PairsPlan& plan) {
  if (plan.n_parts == 0) return text(plan.blocks);
  char most[32];
  std::snprintf(most, sizeof most, "%.2g", plan.most_pairs);
  const std::string level = std::string(plan.blocks.level->name) + ": ";
  return level + "by " + number(plan.n_parts, "part") + " up to " + most + " pairs; else " +
         text(plan.blocks).substr(level.size());
}

}  // namespace dshc::cpu
