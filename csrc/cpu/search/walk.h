// The walk of top-k and radius search: groups of queries against cache-sized blocks of the database, through the filters of
// a plan. A block (16 KiB of codes; of planes 512 items at least) stays in the first-level cache while all queries of a group pass over it.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "../../core/types.h"
#include "../call/plan.h"
#include "block.h"
#include "plane_queries.h"
#include "survivors.h"

namespace dshc::cpu {

// One walk of queries [begin, end).
class FilterWalk {
 public:
  FilterWalk(const Plan& plan, const Pairs& pairs, int64_t begin, int64_t end);

  // Lets the survivors of the queries take what is in [db_begin, db_end).
  void run(int64_t db_begin, int64_t db_end, const SurvivorsOf& survivors);

 private:
  const uint8_t* allowed(int64_t query, int64_t item) const {
    return pairs_.allowed ? pairs_.allowed + query * pairs_.allowed_stride + item / 8 : nullptr;
  }
  const FilterRow& row_for(const FilterPass& pass) const;
  void choose(const SurvivorsOf& survivors);
  void pass_over(const SurvivorsOf& survivors, const std::vector<uint16_t>& list, const uint8_t* words, int64_t first,
                 int64_t n);

  const Pairs& pairs_;
  int64_t begin_;
  const WalkPlan plan_;
  BlockColumns columns_;
  WordShape shape_;
  std::vector<uint64_t> words_;
  std::vector<uint16_t> all_, by_pass_;         // numbers of queries: all, and those not yet in plane_queries_
  std::unique_ptr<PlaneQueries> plane_queries_;  // null: these pairs do not go there
  bool use_planes_ = false;
};

}  // namespace dshc::cpu
