#include "search.h"

#include "../kernels/level.h"

namespace dshc::cpu {

Search Search::topk(const Pairs& pairs, int64_t k, int n_threads) {
  return Search(pairs, n_threads, [&](const Pairs& distinct, bool codes_repeat) {
    return plan_topk(distinct, k, codes_repeat, level(), n_threads);
  });
}

Search Search::radius(const Pairs& pairs, int32_t limit, int n_threads) {
  return Search(pairs, n_threads, [&](const Pairs& distinct, bool codes_repeat) {
    return plan_radius(distinct, limit, codes_repeat, level(), n_threads);
  });
}

}  // namespace dshc::cpu
