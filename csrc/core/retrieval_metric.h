// retrieval_metric: one number for each query, in float64, from the order of the database's items. NaN where nothing in the
// database is relevant. Ties expected, best and worst come from histograms alone; index needs a second, ordered pass.
#pragma once
#include "average_precision.h"
#include "types.h"

namespace dshc {

enum class Metric : int32_t {
  ndcg = 0,
  reciprocal_rank = 1,
  precision = 2,
  recall = 3,
  hit_rate = 4,
  r_precision = 5,
  average_precision_at_r = 6,
};

// What an item that shares s labels with the query is worth to DCG: s, or 2^s - 1. Equal class ids are one shared label.
enum class Gains : int32_t { linear = 0, exponential = 1 };

struct MetricTask {
  Metric metric;
  int64_t k;  // the cut; 0: none. The two metrics at R have their own, the number of relevant items.
  Ties ties;
  Gains gains;
};

namespace cpu {

void retrieval_metric(const Pairs& pairs, const Relevance& relevance, const MetricTask& task,
                      double* result /* [n_query] */, int n_threads);

}  // namespace cpu
}  // namespace dshc

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t. `n_labels`: columns of multi-hot rows, which
// bound the labels that two items share; 1 with class ids.
namespace dshc::cuda {

int64_t retrieval_metric_workspace_bytes(const Pairs& pairs, const MetricTask& task, int32_t n_labels);
int retrieval_metric(const Pairs& pairs, const Relevance& relevance, const MetricTask& task, int32_t n_labels,
                     double* result /* [n_query] */, void* workspace, void* stream);

}  // namespace dshc::cuda
