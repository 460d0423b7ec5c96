// Top-k and radius search are one search that keeps what it finds in two ways: the k best of each query under a falling
// bound, or all below a limit.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../call/plan.h"
#include "../call/threads.h"
#include "../repeats/allowed_items.h"
#include "../repeats/equal_queries.h"
#include "grouped.h"
#include "survivors.h"
#include "walk.h"

namespace dshc::cpu {

// What a search begins with: what repeats, and the plan. Only inside of calls.
class Search {
 public:
  static Search topk(const Pairs& pairs, int64_t k, int n_threads);
  // Items of rank value below `limit` are wanted.
  static Search radius(const Pairs& pairs, int32_t limit, int n_threads);

  const EqualQueries& queries() const { return queries_; }
  const Pairs& pairs() const { return allowed_.pairs(); }  // distinct queries, and the items that are allowed
  const std::vector<int64_t>& items() const { return allowed_.items(); }
  const GroupedRanking& grouped() const { return grouped_; }
  const Plan& plan() const { return plan_; }

 private:
  template <class MakePlan>
  Search(const Pairs& pairs, int n_threads, MakePlan make_plan)
      : queries_(pairs, n_threads),
        allowed_(queries_.pairs()),
        grouped_(allowed_.pairs(), n_threads),
        plan_(make_plan(allowed_.pairs(), grouped_.pays())) {}

  EqualQueries queries_;
  AllowedItems allowed_;
  GroupedRanking grouped_;
  Plan plan_;
};

// Lets every query walk through the database as its plan says. `keep` says what is wanted and takes what was found:
//   keep.start(query, survivors)                   before a walk, in memory that may have served another query
//   keep.take_group(group, begin, end, survivors)  of the queries [begin, end), where the database is one shard; the next
//                                                  group uses the memory again
//   keep.take_shards(survivors)                    [n_query, n_shards], where it is several and they are to be merged
template <class Keep>
void search(const Plan& plan, const Pairs& pairs, Keep& keep) {
  const Tasks& tasks = plan.tasks;
  const auto walk = [&](int64_t begin, int64_t end, int64_t item, const SurvivorsOf& survivors) {
    FilterWalk(plan, pairs, begin, end).run(item, std::min(item + tasks.shard, pairs.n_db), survivors);
  };
  if (tasks.n_shards == 1) {
    SpareSurvivors spare;
    parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
      const int64_t begin = group * tasks.group, end = std::min(begin + tasks.group, pairs.n_query);
      std::vector<Survivors> found = spare.take(tasks.group);
      for (int64_t q = begin; q < end; ++q) keep.start(q, found[static_cast<size_t>(q - begin)]);
      walk(begin, end, 0, {found.data(), begin, 1});
      keep.take_group(group, begin, end, found.data());
      spare.give(std::move(found));
    });
    return;
  }
  std::vector<Survivors> found(static_cast<size_t>(pairs.n_query * tasks.n_shards));
  std::vector<SharedBound> bounds(static_cast<size_t>(pairs.n_query));
  parallel_for(tasks.n_tasks(), tasks.n_threads, [&](int64_t task) {
    const int64_t begin = task / tasks.n_shards * tasks.group, end = std::min(begin + tasks.group, pairs.n_query);
    const int64_t shard = task % tasks.n_shards;
    const SurvivorsOf mine{found.data() + begin * tasks.n_shards + shard, begin, tasks.n_shards};
    for (int64_t q = begin; q < end; ++q) {
      keep.start(q, mine(q));
      mine(q).share(&bounds[static_cast<size_t>(q)], static_cast<int32_t>(shard));
    }
    walk(begin, end, shard * tasks.shard, mine);
  });
  keep.take_shards(std::move(found));
}

}  // namespace dshc::cpu
