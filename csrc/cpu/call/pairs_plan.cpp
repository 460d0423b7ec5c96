#include "pairs_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace dshc::cpu {
namespace {

// Measured, on one thread.
constexpr double kGroupNanoseconds = 12.0;    // an item and a part
constexpr double kComparePair = 2.0;          // two items of a group
constexpr double kScanPair = 0.02, kScanWord = 0.1;  // two items of all, and beyond two words each word
constexpr int64_t kMostItems = int64_t{1} << 32;  // a group's members are numbers of 32 bits

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
  const double scan = pairs_of(n) * (kScanPair + kScanWord * std::max(0, WordShape(codes.stride).n_words - 2));
  const double grouping = kGroupNanoseconds * n * n_parts;
  const double most_pairs = std::max(0.0, (scan - grouping) / kComparePair);
  if (grouping >= scan || fewest_pairs(n, bits, n_parts) > most_pairs) return plan;
  plan.n_parts = static_cast<int>(radius + 1);
  plan.most_pairs = most_pairs;
  return plan;
}

std::string text(const PairsPlan& plan) {
  if (plan.n_parts == 0) return text(plan.blocks);
  char most[32];
  std::snprintf(most, sizeof most, "%.2g", plan.most_pairs);
  return std::string(plan.blocks.level->name) + ": by " + number(plan.n_parts, "part") + " up to " + most +
         " pairs; else " + text(plan.blocks);
}

}  // namespace dshc::cpu
