#include "../core/hamming_radius.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "call/call.h"
#include "call/threads.h"
#include "repeats/allowed_items.h"
#include "repeats/equal_queries.h"
#include "search/grouped.h"
#include "search/walk.h"

namespace dshc::cpu {
namespace {

// Rank values below this one are inside.
int32_t value_limit(const Pairs& pairs, int64_t radius) {
  const int64_t top = 8 * pairs.n_bytes;
  const int64_t limit = pairs.score == Score::hamming ? std::min(radius, top) + 1 : top - std::min(radius, top + 1) + 1;
  return static_cast<int32_t>(limit);
}

}  // namespace

struct RadiusSearch::Found {
  EqualQueries queries;
  AllowedItems allowed;
  GroupedRanking grouped;
  int32_t limit;
  int64_t n_all;                     // queries of the call
  Tasks tasks;
  // What was found. Of the groups of queries, in order: a group is small beside a call, so that what is kept for a query
  // without an answer is its size alone. Where shards are to be merged there are few queries, and their survivors are kept.
  std::vector<std::unique_ptr<Key[]>> groups;  // [n_groups] the keys of a group's queries, ascending for each
  std::vector<Survivors> survivors;            // [distinct queries, n_shards]
  std::vector<int64_t> sizes;                  // [distinct queries]
  int64_t n_found = 0;

  Found(const Pairs& pairs, int64_t radius, int n_threads)
      : queries(pairs, n_threads),
        allowed(queries.pairs()),
        grouped(allowed.pairs(), n_threads),
        limit(value_limit(pairs, radius)),
        n_all(pairs.n_query),
        tasks(cut_search(allowed.pairs(), 1, n_threads)),
        sizes(static_cast<size_t>(queries.pairs().n_query), 0) {
    if (limit > 0 && this->pairs().n_db > 0) {
      grouped.pays() ? count_groups(n_threads) : tasks.n_shards == 1 ? search_groups() : search_shards();
    }
    for (int64_t q = 0; q < this->pairs().n_query; ++q) {
      queries.for_each(q, [&](int64_t) { n_found += sizes[static_cast<size_t>(q)]; });
    }
  }

  const Pairs& pairs() const { return allowed.pairs(); }

  // Calls use(ranker, query), the ranker being that of the task.
  template <class Use>
  void rank_groups(int n_threads, Use use) {
    const int64_t n = pairs().n_query, n_tasks = std::min<int64_t>(n, 4 * n_threads);
    parallel_for(n_tasks, n_threads, [&](int64_t task) {
      GroupedRanking::Ranker ranker(grouped);
      for (int64_t q = n * task / n_tasks; q < n * (task + 1) / n_tasks; ++q) {
        ranker.rank(q);
        use(ranker, q);
      }
    });
  }

  void count_groups(int n_threads) {
    rank_groups(n_threads, [&](GroupedRanking::Ranker& ranker, int64_t q) {
      sizes[static_cast<size_t>(q)] = ranker.n_below(limit);
    });
  }

  void search_groups() {
    groups.resize(static_cast<size_t>(tasks.n_groups));
    SpareSurvivors spare;
    parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
      const int64_t begin = group * tasks.group, end = std::min(begin + tasks.group, pairs().n_query);
      std::vector<Survivors> found = spare.take(tasks.group);
      const auto mine = [&](int64_t q) -> Survivors& { return found[static_cast<size_t>(q - begin)]; };
      // With k beyond the database no bound falls and nothing is dropped.
      for (int64_t q = begin; q < end; ++q) mine(q).start(pairs().n_db + 1, limit);
      filter_walk(pairs(), begin, end, 0, pairs().n_db, mine);
      int64_t all = 0;
      for (int64_t q = begin; q < end; ++q) all += sizes[static_cast<size_t>(q)] = mine(q).size();
      if (all > 0) {
        Key* keys = new Key[static_cast<size_t>(all)];
        groups[static_cast<size_t>(group)].reset(keys);
        for (int64_t q = begin; q < end; keys += sizes[static_cast<size_t>(q++)]) mine(q).move_sorted(keys);
      }
      spare.give(std::move(found));
    });
  }

  void search_shards() {
    survivors.resize(static_cast<size_t>(pairs().n_query * tasks.n_shards));
    parallel_for(tasks.n_tasks(), tasks.n_threads, [&](int64_t task) {
      const int64_t begin = task / tasks.n_shards * tasks.group, end = std::min(begin + tasks.group, pairs().n_query);
      const int64_t shard = task % tasks.n_shards, item = shard * tasks.shard;
      const auto mine = [&](int64_t q) -> Survivors& { return survivors[static_cast<size_t>(q * tasks.n_shards + shard)]; };
      for (int64_t q = begin; q < end; ++q) mine(q).start(pairs().n_db + 1, limit);
      filter_walk(pairs(), begin, end, item, std::min(item + tasks.shard, pairs().n_db), mine);
    });
    for (size_t i = 0; i < survivors.size(); ++i) sizes[i / static_cast<size_t>(tasks.n_shards)] += survivors[i].size();
  }

  // Calls use(query, its keys) for the queries of a group.
  template <class Use>
  void for_each_kept(int64_t group, Use use) const {
    const Key* keys = groups[static_cast<size_t>(group)].get();
    const int64_t begin = group * tasks.group, end = std::min(begin + tasks.group, pairs().n_query);
    for (int64_t q = begin; q < end; keys += sizes[static_cast<size_t>(q++)]) use(q, keys);
  }

  void finish(int64_t size, int32_t* counts, int64_t* indices) const {
    for (int64_t i = 0; i < size; ++i) counts[i] = count_of(pairs(), counts[i]);
    if (allowed.items().empty()) return;
    for (int64_t i = 0; i < size; ++i) indices[i] = allowed.items()[static_cast<size_t>(indices[i])];
  }
};

RadiusSearch::RadiusSearch(const Pairs& pairs, int64_t radius, int n_threads) {
  const Call call;
  found_ = new Found(pairs, radius, n_threads);
}

RadiusSearch::~RadiusSearch() { delete found_; }

int64_t RadiusSearch::n_found() const { return found_->n_found; }

void RadiusSearch::write(int64_t* offsets, int64_t* indices, int32_t* counts, int n_threads) {
  const Call call;
  Found& found = *found_;
  offsets[0] = 0;
  for (int64_t q = 0; q < found.pairs().n_query; ++q) {
    found.queries.for_each(q, [&](int64_t query) { offsets[query + 1] = found.sizes[static_cast<size_t>(q)]; });
  }
  for (int64_t q = 0; q < found.n_all; ++q) offsets[q + 1] += offsets[q];
  if (found.n_found == 0) return;
  const auto place = [&](int64_t q) { return offsets[found.queries.first(q)]; };
  const auto size = [&](int64_t q) { return found.sizes[static_cast<size_t>(q)]; };
  if (found.grouped.pays()) {
    found.rank_groups(n_threads, [&](GroupedRanking::Ranker& ranker, int64_t q) {
      ranker.write(size(q), counts + place(q), indices + place(q));
      found.finish(size(q), counts + place(q), indices + place(q));
    });
  } else if (found.tasks.n_shards == 1) {
    parallel_for(found.tasks.n_groups, n_threads, [&](int64_t group) {
      found.for_each_kept(group, [&](int64_t q, const Key* keys) {
        int32_t* values = counts + place(q);
        int64_t* items = indices + place(q);
        in_stretches(0, size(q), 2.0, [&](int64_t first, int64_t last) {
          for (int64_t i = first; i < last; ++i) {
            values[i] = value_of(keys[i]);
            items[i] = index_of(keys[i]);
          }
        });
        found.finish(size(q), values, items);
      });
      found.groups[static_cast<size_t>(group)].reset();
    });
  } else {
    parallel_for(found.pairs().n_query, n_threads, [&](int64_t q) {
      Survivors* shards = found.survivors.data() + q * found.tasks.n_shards;
      Survivors::finish(shards, found.tasks.n_shards, size(q), counts + place(q), indices + place(q));
      found.finish(size(q), counts + place(q), indices + place(q));
      for (int64_t s = 0; s < found.tasks.n_shards; ++s) shards[s] = Survivors();
    });
  }
  found.queries.copy_answers(counts, indices, n_threads, [&](int64_t query) { return offsets[query]; }, size);
}

}  // namespace dshc::cpu
