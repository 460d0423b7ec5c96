// Whether a search asks the substring tables of its database (core/substring_tables.h), and what that may cost.
#pragma once
#include <cstdint>
#include <string>

#include "../../core/types.h"
#include "../kernels/level.h"

namespace dshc::cpu {

// From so many queries on a scan shares what it loads among many of them, among some.
constexpr int64_t kManyQueries = 48, kSomeQueries = 8;

struct TablePlan {
  const Level* level;
  bool asks;         // the tables; else all is scanned
  double scan;       // ns that a scan of the call takes per query, as far as the tables' threads would be busy with it
  double probe;      // ns for one value of a substring that is looked up
  double candidate;  // ns for an item that is compared
  double answer;     // ns for a code that is found, with its items, more than in a scan; not known before
  // The first queries of a call show whether the tables pay; so that little is lost where they do not, they are few.
  int64_t n_scouts;
  double scout_budget, budget;  // ns that may be spent on a scout, and on a later query, before it is left to the scan
  int64_t group;     // queries that are looked up together, so that their cache misses are under way together
  int n_threads;
};

TablePlan plan_tables_topk(const Pairs& pairs, int64_t k, const Level& level, int n_threads);
TablePlan plan_tables_radius(const Pairs& pairs, int32_t radius, const Level& level, int n_threads);

// How many bits of substring t may differ so that the tables together find all within a radius; -1: none need be looked up.
// The first (radius mod n_tables) + 1 tables are looked up to floor(radius / n_tables), the others to one less.
inline int32_t table_radius(int32_t radius, int32_t n_tables, int32_t t) {
  return radius / n_tables - (t > radius % n_tables);
}

// Values of `bits` bits with `ones` of them set, as a double: it may be very large.
double n_values_with(int32_t bits, int32_t ones);

// What was chosen, in words.
std::string text(const TablePlan& plan, const SubstringTables& tables);

}  // namespace dshc::cpu
