// A small, even sample of a database, from which top-k guesses how small the rank values of an answer are.
#pragma once
#include <cstdint>
#include <vector>

#include "../../core/types.h"
#include "../call/plan.h"

namespace dshc::cpu {

// For each query a rank value below which it has, very likely, at least k items: twice as good a bound to start with as
// none. n_rank_values where the plan makes no guess. A search that finds fewer than k items below must be made again
// without.
std::vector<int32_t> likely_limits(const Plan& plan, const Pairs& pairs, int64_t k, int n_threads);

}  // namespace dshc::cpu
