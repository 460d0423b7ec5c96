// What is chosen for a call that counts (histograms, average precision): the ways that its size is worth, of which the first
// that suits the database is taken. Whether codes repeat and how many labels there are is found out on the way, because
// looking takes as long as some queries.
#pragma once
#include <cstdint>
#include <string>

#include "../../core/types.h"
#include "../kernels/level.h"
#include "blocks.h"

namespace dshc::cpu {

struct CountPlan {
  const Level* level;
  bool empty;          // there is no database
  bool by_codes;       // distinct codes are compared, if codes repeat
  bool sliced;         // else bit-sliced codes are counted, if the database has at most max_labels different labels
  int64_t max_labels;  // kAnyLabels: nobody counts them
  Tasks tasks;         // else every pair is compared, row by row

  static constexpr int64_t kAnyLabels = INT64_MAX;
};

// `state_bytes`: what the op keeps for a query while it goes row by row.
CountPlan plan_histograms(const Pairs& pairs, const Relevance& relevance, int64_t state_bytes, const Level& level,
                          int n_threads);
// Of ranks with ties by index.
CountPlan plan_ranks(const Pairs& pairs, const Relevance& relevance, int64_t state_bytes, const Level& level,
                     int n_threads);

// What was chosen, in words.
std::string text(const CountPlan& plan);

}  // namespace dshc::cpu
