#include "count_plan.h"

namespace dshc::cpu {
namespace {

// Class ids lie label by label when they are sliced. With fewer items per label, finding the labels takes long.
int64_t most_labels(const Pairs& pairs) {
  constexpr int64_t kLabelRepeats = 8;        // items per label
  constexpr int64_t kWorthAnyLabels = 2048;  // queries, from which finding that many labels pays
  return pairs.n_query >= kWorthAnyLabels ? pairs.n_db : pairs.n_db / kLabelRepeats;
}

bool can_slice(const Pairs& pairs) {
  return !pairs.allowed && pairs.n_bytes <= kMaxSlicedBytes && pairs.n_db >= kPlaneItems;
}

}  // namespace

CountPlan plan_histograms(const Pairs& pairs, const Relevance& relevance, int64_t state_bytes, const Level& level,
                          int n_threads) {
  // Fewer queries than this do not pay for a look at the whole database before the scan.
  constexpr int64_t kWorthArranging = 32, kWorthSlicing = 64;
  CountPlan plan{};
  plan.level = &level;
  plan.empty = pairs.n_db == 0;
  if (plan.empty) return plan;
  plan.by_codes = !pairs.allowed && (pairs.n_query >= kWorthArranging || pairs.equal_codes.n_parts > 0);
  plan.sliced = can_slice(pairs) && pairs.n_query >= kWorthSlicing;
  plan.max_labels = relevance.database_ids ? most_labels(pairs) : CountPlan::kAnyLabels;
  plan.tasks = cut_scan(pairs, state_bytes, true, n_threads);
  return plan;
}

CountPlan plan_ranks(const Pairs& pairs, const Relevance& relevance, int64_t state_bytes, const Level& level,
                     int n_threads) {
  constexpr int64_t kWorthSlicing = 48;   // queries
  constexpr int64_t kMaxItems = 1 << 22;  // 32-bit places, and what a query notes of its class stays small
  CountPlan plan{};
  plan.level = &level;
  plan.empty = pairs.n_db == 0;
  plan.sliced = can_slice(pairs) && relevance.database_ids && pairs.n_query >= kWorthSlicing && pairs.n_db <= kMaxItems;
  plan.max_labels = most_labels(pairs);
  plan.tasks = cut_scan(pairs, state_bytes, false, n_threads);
  return plan;
}

std::string text(const CountPlan& plan) {
  std::string words = std::string(plan.level->name) + ": ";
  if (plan.empty) return words + "nothing to count";
  if (plan.by_codes) words += "by distinct codes if they repeat, else ";
  if (plan.sliced && plan.max_labels == CountPlan::kAnyLabels) return words + "bit-sliced";
  if (plan.sliced) words += "bit-sliced if there are at most " + number(plan.max_labels, "label") + ", else ";
  return words + "row by row; " + text(plan.tasks);
}

}  // namespace dshc::cpu
