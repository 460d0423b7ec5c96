#include "by_index.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "../../common/average_precision.h"
#include "../call/count_plan.h"
#include "relevant_ranks.h"
#include "sliced_order.h"

namespace dshc::cpu {
namespace {

struct Precisions {
  double sum = 0.0;
  int64_t retrieved = 0;

  void add(RelevantPlaces& places, const RelevantNotes& notes, int64_t k) {
    places.settle(notes, [&](int64_t rank, int64_t hits, int64_t) {
      const bool inside = rank <= k;
      sum += inside ? static_cast<double>(hits) / static_cast<double>(rank) : 0.0;
      retrieved += inside;
    });
  }
};

void walk_in_order(const Pairs& pairs, const Relevance& relevance, int64_t begin, int64_t end, int64_t k,
                   Denominator denominator, double* result) {
  std::vector<Precisions> found(static_cast<size_t>(end - begin));
  const auto mine = [&](int64_t q) -> Precisions& { return found[static_cast<size_t>(q - begin)]; };
  walk_relevant(
      pairs, relevance, begin, end, false, [](int64_t, const RelevantPlaces&) {},
      [&](int64_t q, RelevantPlaces& places, const RelevantNotes& notes) { mine(q).add(places, notes, k); },
      [&](int64_t q, const RelevantPlaces& places) {
        result[q] = places.all_relevant() == 0
                        ? std::numeric_limits<double>::quiet_NaN()
                        : divide_precisions(mine(q).sum, mine(q).retrieved, places.all_relevant(),
                                            std::min(k, places.all_items()), denominator);
      });
}

}  // namespace

void average_precision_by_index(const Pairs& pairs, const Relevance& relevance, int64_t k, Denominator denominator,
                                double* result, int n_threads) {
  const CountPlan plan = plan_ranks(pairs, relevance, walk_state_bytes(pairs), level(), n_threads);
  if (plan.sliced) {
    const SlicedOrder order(pairs, relevance, plan.max_labels, n_threads);
    if (order.pays()) return order.average_precision(k, denominator, result, n_threads);
  }
  for_each_group(pairs, plan.tasks, [&](int64_t begin, int64_t end) {
    walk_in_order(pairs, relevance, begin, end, k, denominator, result);
  });
}

}  // namespace dshc::cpu
