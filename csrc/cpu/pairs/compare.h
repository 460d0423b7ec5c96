// The two ways to find pairs: to compare all, and to compare those that share a part of their codes.
#pragma once
#include <cstdint>
#include <vector>

#include "../../core/hamming_pairs.h"
#include "../call/pairs_plan.h"
#include "equal_parts.h"
#include "pair_rows.h"

namespace dshc::cpu {

// Every pair once, by the filters of the radius search: a group of codes against all from its first one on.
PairRows compare_blocks(const PairsPlan& plan, const CodeRows& codes, int32_t limit, PairRoom& room, int64_t* offsets);

// Of groups with an equal part [part][list]: a pair counts in the first part that its codes have in common.
std::vector<std::vector<FoundPair>> compare_groups(const CodeRows& codes, const CodeParts& parts,
                                                   const std::vector<std::vector<Groups>>& groups, int32_t limit,
                                                   PairRoom& room, int n_threads);

}  // namespace dshc::cpu
