#include "../core/hamming_radius.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "call/call.h"
#include "search/search.h"

namespace dshc::cpu {
namespace {

// Rank values below this one are inside.
int32_t value_limit(const Pairs& pairs, int64_t radius) {
  const int64_t top = 8 * pairs.n_bytes;
  const int64_t limit = pairs.score == Score::hamming ? std::min(radius, top) + 1 : top - std::min(radius, top + 1) + 1;
  return static_cast<int32_t>(limit);
}

}  // namespace

// All items of each query below the limit. Also how a search keeps them (search/search.h).
struct RadiusSearch::Found {
  int32_t limit;
  int64_t n_all;  // queries of the call
  Search search;
  // What was found. Of the groups of queries, in order: a group is small beside a call, so that what is kept for a query
  // without an answer is its size alone. Where shards are to be merged there are few queries, and their survivors are kept.
  std::vector<std::unique_ptr<Key[]>> groups;  // [n_groups] the keys of a group's queries, ascending for each
  std::vector<Survivors> survivors;            // [distinct queries, n_shards]
  std::vector<int64_t> sizes;                  // [distinct queries]
  int64_t n_found = 0;

  Found(const Pairs& all_pairs, int64_t radius, int n_threads)
      : limit(value_limit(all_pairs, radius)),
        n_all(all_pairs.n_query),
        search(Search::radius(all_pairs, limit, n_threads)),
        sizes(static_cast<size_t>(pairs().n_query), 0) {
    switch (route()) {
      case Route::empty:
      case Route::whole:  // of top-k alone
        break;
      case Route::grouped:
        search.grouped().rank_all(n_threads, [&](GroupedRanking::Ranker& ranker, int64_t q) {
          sizes[static_cast<size_t>(q)] = ranker.n_below(limit);
        });
        break;
      case Route::filtered:
        groups.resize(static_cast<size_t>(tasks().n_shards == 1 ? tasks().n_groups : 0));
        cpu::search(search.plan(), pairs(), *this);
        break;
    }
    for (int64_t q = 0; q < pairs().n_query; ++q) {
      search.queries().for_each(q, [&](int64_t) { n_found += sizes[static_cast<size_t>(q)]; });
    }
  }

  const Pairs& pairs() const { return search.pairs(); }
  Route route() const { return search.plan().route; }
  const Tasks& tasks() const { return search.plan().tasks; }

  // With k beyond the database no bound falls and nothing is dropped.
  void start(int64_t /*query*/, Survivors& mine) const { mine.start(pairs().n_db + 1, limit); }

  void take_group(int64_t group, int64_t begin, int64_t end, Survivors* found) {
    int64_t all = 0;
    for (int64_t q = begin; q < end; ++q) all += sizes[static_cast<size_t>(q)] = found[q - begin].size();
    if (all == 0) return;
    Key* keys = new Key[static_cast<size_t>(all)];
    groups[static_cast<size_t>(group)].reset(keys);
    for (int64_t q = begin; q < end; keys += sizes[static_cast<size_t>(q++)]) found[q - begin].move_sorted(keys);
  }

  void take_shards(std::vector<Survivors>&& found) {
    survivors = std::move(found);
    const size_t n_shards = static_cast<size_t>(tasks().n_shards);
    for (size_t i = 0; i < survivors.size(); ++i) sizes[i / n_shards] += survivors[i].size();
  }

  // Calls use(query, its keys) for the queries of a group.
  template <class Use>
  void for_each_kept(int64_t group, Use use) const {
    const Key* keys = groups[static_cast<size_t>(group)].get();
    const int64_t begin = group * tasks().group, end = std::min(begin + tasks().group, pairs().n_query);
    for (int64_t q = begin; q < end; keys += sizes[static_cast<size_t>(q++)]) use(q, keys);
  }

  void finish(int64_t size, int32_t* counts, int64_t* indices) const {
    for (int64_t i = 0; i < size; ++i) counts[i] = count_of(pairs(), counts[i]);
    if (search.items().empty()) return;
    for (int64_t i = 0; i < size; ++i) indices[i] = search.items()[static_cast<size_t>(indices[i])];
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
    found.search.queries().for_each(q, [&](int64_t query) { offsets[query + 1] = found.sizes[static_cast<size_t>(q)]; });
  }
  for (int64_t q = 0; q < found.n_all; ++q) offsets[q + 1] += offsets[q];
  if (found.n_found == 0) return;
  const auto place = [&](int64_t q) { return offsets[found.search.queries().first(q)]; };
  const auto size = [&](int64_t q) { return found.sizes[static_cast<size_t>(q)]; };
  if (found.route() == Route::grouped) {
    found.search.grouped().rank_all(n_threads, [&](GroupedRanking::Ranker& ranker, int64_t q) {
      ranker.write(size(q), counts + place(q), indices + place(q));
      found.finish(size(q), counts + place(q), indices + place(q));
    });
  } else if (found.tasks().n_shards == 1) {
    parallel_for(found.tasks().n_groups, n_threads, [&](int64_t group) {
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
      Survivors* shards = found.survivors.data() + q * found.tasks().n_shards;
      Survivors::finish(shards, found.tasks().n_shards, size(q), counts + place(q), indices + place(q));
      found.finish(size(q), counts + place(q), indices + place(q));
      for (int64_t s = 0; s < found.tasks().n_shards; ++s) shards[s] = Survivors();
    });
  }
  found.search.queries().copy_answers(counts, indices, n_threads, [&](int64_t query) { return offsets[query]; }, size);
}

}  // namespace dshc::cpu
