// Average precision where ties fall in the order of the database.
#pragma once
#include "../../core/average_precision.h"

namespace dshc::cpu {

void average_precision_by_index(const Pairs& pairs, const Relevance& relevance, int64_t k, Denominator denominator,
                                double* result /* [n_query] */, int n_threads);

}  // namespace dshc::cpu
