// What is chosen for a search of all pairs: whether to group the items by parts of their codes first, and how to compare all
// where that does not pay. How many pairs share a part is known once the items are grouped; up to how many it pays is said here.
#pragma once
#include <cstdint>
#include <string>

#include "../../core/hamming_pairs.h"
#include "plan.h"

namespace dshc::cpu {

struct PairsPlan {
  Plan blocks;       // all pairs, through the filters of radius search; its route is empty where there is nothing to compare
  int n_parts;       // of which codes within the radius share one; 0: not by parts
  double most_pairs;  // of items with a part in common, over all parts: with more of them blocks are faster
};

// Codes of n_bytes, that lie in rows of `stride` bytes.
PairsPlan plan_pairs(const CodeRows& codes, int64_t radius, const Level& level, int n_threads);

// What was chosen, in words.
std::string text(const PairsPlan& plan);

}  // namespace dshc::cpu
