// The two histograms of each query, counted in whichever way suits the call.
#pragma once
#include <cstdint>
#include <functional>

#include "../../core/types.h"

namespace dshc::cpu {

// items[v] and relevant[v]: how many (relevant) items have rank value v, for v in [0, n_rank_values).
using UseHistograms = std::function<void(int64_t query, const int64_t* items, const int64_t* relevant)>;

// Calls use once for each query, from any thread.
void query_histograms(const Pairs& pairs, const Relevance& relevance, int n_threads, const UseHistograms& use);

}  // namespace dshc::cpu
