// What is chosen once for a call of a search: the way it goes, the filters it takes, how it is cut up. A plan is data, so
// that a test can ask for one and read it.
#pragma once
#include <cstdint>
#include <string>

#include "../../core/types.h"
#include "../kernels/level.h"
#include "blocks.h"

namespace dshc::cpu {

// The rows of a level that serve a walk, best first: per query and block the first whose max_bound covers the bound. The
// last one covers any.
struct Filters {
  static constexpr int kMost = 4;
  const FilterRow* rows[kMost] = {};

  const FilterRow& best() const { return *rows[0]; }
  // The row whose queries stay with it, or null; and the first of those that take one pass after the other.
  const FilterRow* by_planes() const { return best().planes ? rows[0] : nullptr; }
  const FilterRow* const* by_pass() const { return best().planes ? rows + 1 : rows; }
};

// How a walk of some queries reads the database.
struct WalkPlan {
  Filters filters;
  bool in_place;  // the database's own words, instead of an aligned copy of each block
  int64_t block_items;
};

enum class Route {
  empty,     // nothing can be found
  grouped,   // codes repeat: distinct codes are ranked, and their items answered
  whole,     // so much is wanted that all items are ranked
  filtered,  // blocks of the database pass through filters
};

struct Plan {
  const Level* level;
  Route route;
  WalkPlan walk;  // of a group of queries
  Tasks tasks;
  int64_t sample_items;  // that tell where the bounds will end; 0: nobody guesses
};

// `codes_repeat`: somebody has found the distinct codes of the database, and there are few.
Plan plan_topk(const Pairs& pairs, int64_t k, bool codes_repeat, const Level& level, int n_threads);
// Items of rank value below `limit` are wanted.
Plan plan_radius(const Pairs& pairs, int32_t limit, bool codes_repeat, const Level& level, int n_threads);
// For the sample of a plan in the place of the database.
Plan plan_sample(const Pairs& sample, const Level& level, int n_threads);

// Of fewer queries than a group has, too: the last group, a query that is searched for again.
WalkPlan plan_walk(const Plan& plan, const Pairs& pairs, int64_t n_queries);

// The filter of one query over codes of whole words as they lie, whatever its bound; null where a level has none.
const FilterRow* filter_in_place(const Level& level, const Pairs& pairs);

// Items of a sample come in runs: a cache line of 64-bit codes, and a byte of an `allowed` row.
constexpr int64_t kSampleRun = 8;

// What was chosen, in words.
std::string text(const Plan& plan);

}  // namespace dshc::cpu
