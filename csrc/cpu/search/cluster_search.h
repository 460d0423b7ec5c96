// Top-k and radius search through the clusters of a database (CodeClusters in core/types.h).
#pragma once
#include <cstdint>
#include <vector>

#include "../../core/types.h"
#include "table_search.h"

namespace dshc::cpu {

// Whether a search asks them: not where queries have masks of their own.
bool asks_clusters(const Pairs& pairs);

// Calls take, from any thread, for each query that is answered. Returns those that are given up because a scan is faster,
// ascending.
std::vector<int64_t> cluster_topk(const Pairs& pairs, int64_t k, int n_threads, const TakeAnswer& take);
std::vector<int64_t> cluster_radius(const Pairs& pairs, int32_t radius, int n_threads, const TakeAnswer& take);

}  // namespace dshc::cpu
