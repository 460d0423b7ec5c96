#include "cluster_plan.h"

#include "blocks.h"
#include "table_plan.h"

namespace dshc::cpu {
namespace {

// The clusters' answer is put together item by item, a scan's by counting.
constexpr int64_t kFewWanted = 64;  // times the items wanted, that a database must have
// A comparison here takes as long as so many of a scan's, whose queries share what they load.
constexpr int64_t kOfManyQueries = 8, kOfSomeQueries = 4, kOfFewQueries = 2;

ClusterPlan plan_clusters(const Pairs& pairs, int n_threads) {
  const bool one_mask = !pairs.allowed || pairs.allowed_stride == 0;
  ClusterPlan plan{};
  plan.n_threads = n_threads;
  plan.asks = pairs.clusters && pairs.clusters->n_centers > 0 && pairs.score == Score::hamming && one_mask &&
              pairs.n_query > 0 && pairs.table_use != TableUse::never;
  plan.budget = pairs.n_db / (pairs.n_query >= kManyQueries   ? kOfManyQueries
                              : pairs.n_query >= kSomeQueries ? kOfSomeQueries
                                                              : kOfFewQueries);
  if (pairs.table_use == TableUse::always) plan.budget = pairs.n_db;
  return plan;
}

}  // namespace

ClusterPlan plan_clusters_topk(const Pairs& pairs, int64_t k, int n_threads) {
  ClusterPlan plan = plan_clusters(pairs, n_threads);
  plan.asks = plan.asks && (k <= pairs.n_db / kFewWanted || pairs.table_use == TableUse::always);
  return plan;
}

ClusterPlan plan_clusters_radius(const Pairs& pairs, int32_t radius, int n_threads) {
  ClusterPlan plan = plan_clusters(pairs, n_threads);
  plan.asks = plan.asks && radius >= 0;
  return plan;
}

std::string text(const ClusterPlan& plan, const CodeClusters& clusters) {
  if (!plan.asks) return "no clusters";
  return number(clusters.n_centers, "cluster") + ", or scanned from " + std::to_string(plan.budget) + " items on; " +
         number(plan.n_threads, "thread");
}

}  // namespace dshc::cpu
