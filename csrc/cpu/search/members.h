// From the nearest distinct codes of a query to the nearest items.
#pragma once
#include <cstdint>

#include "../../core/types.h"

namespace dshc::cpu {

// The k nearest items by (distance, index) of the parts `numbers` [n_found], which come by (distance, number); they have k
// members or more.
void write_members(const Partition& parts, const float* part_distances, const int64_t* numbers, int64_t n_found, int64_t k,
                   float* distances, int64_t* indices);

}  // namespace dshc::cpu
