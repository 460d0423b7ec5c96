// partition_rows: finds equal rows (codes, class ids, multi-hot rows) of a database.
#pragma once
#include "types.h"

namespace dshc::cpu {

// rows [n, row_bytes], members [n], offsets [max_parts + 1]; n >= 1. Returns the number of parts, or Partition::kDistinct
// as soon as there are more than max_parts (then members and offsets hold nothing).
int64_t partition_rows(const uint8_t* rows, int64_t n, int64_t row_bytes, int64_t max_parts, int64_t* members,
                       int64_t* offsets, int n_threads);

}  // namespace dshc::cpu
