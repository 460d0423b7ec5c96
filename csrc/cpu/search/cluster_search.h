// Top-k and radius search through the clusters of a database (CodeClusters in core/types.h).
#pragma once
#include <cstdint>
#include <vector>

#include "../../core/types.h"
#include "../call/cluster_plan.h"
#include "table_search.h"

namespace dshc::cpu {

// Calls take, from any thread, for each query that is answered. Returns those that are given up because a scan is faster,
// ascending.
std::vector<int64_t> cluster_topk(const ClusterPlan& plan, const Pairs& pairs, int64_t k, const TakeAnswer& take);
std::vector<int64_t> cluster_radius(const ClusterPlan& plan, const Pairs& pairs, int32_t radius, const TakeAnswer& take);

}  // namespace dshc::cpu
