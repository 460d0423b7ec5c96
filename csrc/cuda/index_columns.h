// AP with ties by index for many queries, one thread per query; average_precision.cu has the kernels for all other calls.
#pragma once
#include "../core/average_precision.h"
#include "rows.h"

namespace dshc::cuda {

bool fits_index_columns(const Pairs& pairs);

int64_t index_columns_workspace_bytes(const Pairs& pairs);

// result[q] for the queries of `plan`, NaN where nothing is relevant.
int average_precision_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& plan, int64_t k,
                                 Denominator denominator, double* result /* [pairs.n_query] */, void* workspace,
                                 Stream stream);

}  // namespace dshc::cuda
