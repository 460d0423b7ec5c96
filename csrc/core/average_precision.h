// average_precision: AP@k of each query, in float64. NaN where nothing in the database is relevant.
// Ties expected, best and worst come from the two histograms alone; index needs a second, ordered pass over the items.
#pragma once
#include "types.h"

namespace dshc {

enum class Ties : int32_t { expected = 0, index = 1, best = 2, worst = 3 };
enum class Denominator : int32_t { retrieved = 0, min = 1, relevant = 2 };

namespace cpu {

void average_precision(const Pairs& pairs, const Relevance& relevance, int64_t k, Ties ties, Denominator denominator,
                       double* result /* [n_query] */, int n_threads);

}  // namespace cpu
}  // namespace dshc

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int64_t average_precision_workspace_bytes(const Pairs& pairs, Ties ties);
int average_precision(const Pairs& pairs, const Relevance& relevance, int64_t k, Ties ties, Denominator denominator,
                      double* result /* [n_query] */, void* workspace, void* stream);

}  // namespace dshc::cuda
