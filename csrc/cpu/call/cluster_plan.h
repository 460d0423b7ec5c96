// Whether a search asks the clusters of its database (CodeClusters in core/types.h), and what that may cost.
#pragma once
#include <cstdint>
#include <string>

#include "../../core/types.h"

namespace dshc::cpu {

struct ClusterPlan {
  bool asks;       // the clusters; else all is scanned, or looked up in tables
  int64_t budget;  // items that a query may be compared with before it is left to the scan
  int n_threads;
};

ClusterPlan plan_clusters_topk(const Pairs& pairs, int64_t k, int n_threads);
ClusterPlan plan_clusters_radius(const Pairs& pairs, int32_t radius, int n_threads);

// What was chosen, in words.
std::string text(const ClusterPlan& plan, const CodeClusters& clusters);

}  // namespace dshc::cpu
