// Top-k and radius search through the substring tables of a database (core/substring_tables.h).
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "../../core/types.h"
#include "../call/table_plan.h"
#include "../kernels/filter.h"

namespace dshc::cpu {

// Keys of an answer, ordered by (rank value, index).
using TakeAnswer = std::function<void(int64_t query, const std::vector<Key>& keys)>;

// Calls take, from any thread, for each query that is answered. Returns those that are given up because a scan is faster,
// ascending.
std::vector<int64_t> table_topk(const TablePlan& plan, const Pairs& pairs, int64_t k, const TakeAnswer& take);
std::vector<int64_t> table_radius(const TablePlan& plan, const Pairs& pairs, int32_t radius, const TakeAnswer& take);

// The call with those queries only; their codes are in `codes`.
Pairs with_queries(const Pairs& pairs, const std::vector<int64_t>& queries, std::vector<uint8_t>& codes);

}  // namespace dshc::cpu
