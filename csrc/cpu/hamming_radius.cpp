#include "../core/hamming_radius.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "call/call.h"
#include "search/cluster_search.h"
#include "search/search.h"
#include "search/table_search.h"

namespace dshc::cpu {
namespace {

// Rank values below this one are inside.
int32_t value_limit(const Pairs& pairs, int64_t radius) {
  const int64_t top = 8 * pairs.n_bytes;
  const int64_t limit = pairs.score == Score::hamming ? std::min(radius, top) + 1 : top - std::min(radius, top + 1) + 1;
  return static_cast<int32_t>(limit);
}

// All items of each query below the limit, by a scan. Also how a search keeps them (search/search.h).
struct Scan {
  int32_t limit;
  int64_t n_all;  // queries of the call
  Search search;
  // What was found. Of the groups of queries, in order: a group is small beside a call, so that what is kept for a query
  // without an answer is its size alone. Where shards are to be merged there are few queries, and their survivors are kept.
  std::vector<std::unique_ptr<Key[]>> groups;  // [n_groups] the keys of a group's queries, ascending for each
  std::vector<Survivors> survivors;            // [distinct queries, n_shards]
  std::vector<int64_t> sizes;                  // [distinct queries]
  int64_t n_found = 0;

  Scan(const Pairs& all_pairs, int32_t limit, int n_threads)
      : limit(limit),
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

  void write(int64_t* offsets, int64_t* indices, int32_t* counts, int n_threads) {
    offsets[0] = 0;
    for (int64_t q = 0; q < pairs().n_query; ++q) {
      search.queries().for_each(q, [&](int64_t query) { offsets[query + 1] = sizes[static_cast<size_t>(q)]; });
    }
    for (int64_t q = 0; q < n_all; ++q) offsets[q + 1] += offsets[q];
    if (n_found == 0) return;
    const auto place = [&](int64_t q) { return offsets[search.queries().first(q)]; };
    const auto size_of = [&](int64_t q) { return sizes[static_cast<size_t>(q)]; };
    if (route() == Route::grouped) {
      search.grouped().rank_all(n_threads, [&](GroupedRanking::Ranker& ranker, int64_t q) {
        ranker.write(size_of(q), counts + place(q), indices + place(q));
        finish(size_of(q), counts + place(q), indices + place(q));
      });
    } else if (tasks().n_shards == 1) {
      parallel_for(tasks().n_groups, n_threads, [&](int64_t group) {
        for_each_kept(group, [&](int64_t q, const Key* keys) {
          int32_t* values = counts + place(q);
          int64_t* items = indices + place(q);
          in_stretches(0, size_of(q), 2.0, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) {
              values[i] = value_of(keys[i]);
              items[i] = index_of(keys[i]);
            }
          });
          finish(size_of(q), values, items);
        });
        groups[static_cast<size_t>(group)].reset();
      });
    } else {
      parallel_for(pairs().n_query, n_threads, [&](int64_t q) {
        Survivors* shards = survivors.data() + q * tasks().n_shards;
        Survivors::finish(shards, tasks().n_shards, size_of(q), counts + place(q), indices + place(q));
        finish(size_of(q), counts + place(q), indices + place(q));
        for (int64_t s = 0; s < tasks().n_shards; ++s) shards[s] = Survivors();
      });
    }
    search.queries().copy_answers(counts, indices, n_threads, [&](int64_t query) { return offsets[query]; }, size_of);
  }
};

}  // namespace

// What the tables or clusters of the database have found, and the scan of the queries that they have given up, or of all.
struct RadiusSearch::Found {
  Pairs pairs;
  std::vector<std::vector<Key>> looked_up;  // [n_query]; empty: all were scanned
  std::vector<int64_t> scanned;             // else the queries that were
  std::vector<uint8_t> scanned_codes;
  std::unique_ptr<Scan> scan;
  int64_t n_found = 0;

  Found(const Pairs& all_pairs, int64_t radius, int n_threads) : pairs(all_pairs) {
    const int32_t limit = value_limit(pairs, radius);
    const ClusterPlan clusters = plan_clusters_radius(pairs, limit - 1, n_threads);
    const TablePlan plan = plan_tables_radius(pairs, limit - 1, level(), n_threads);
    if (clusters.asks || plan.asks) {
      looked_up.resize(static_cast<size_t>(pairs.n_query));
      const TakeAnswer take = [&](int64_t query, const std::vector<Key>& keys) {
        looked_up[static_cast<size_t>(query)] = keys;
      };
      scanned = clusters.asks ? cluster_radius(clusters, pairs, limit - 1, take) : table_radius(plan, pairs, limit - 1, take);
      if (static_cast<int64_t>(scanned.size()) == pairs.n_query) looked_up.clear();
    }
    if (looked_up.empty()) {
      scan = std::make_unique<Scan>(pairs, limit, n_threads);
    } else if (!scanned.empty()) {
      scan = std::make_unique<Scan>(with_queries(pairs, scanned, scanned_codes), limit, n_threads);
    }
    n_found = scan ? scan->n_found : 0;
    for (const std::vector<Key>& keys : looked_up) n_found += static_cast<int64_t>(keys.size());
  }

  void write(int64_t* offsets, int64_t* indices, int32_t* counts, int n_threads) {
    if (looked_up.empty()) return scan->write(offsets, indices, counts, n_threads);
    std::vector<int64_t> scan_offsets(scanned.size() + 1), scan_indices;
    std::vector<int32_t> scan_counts;
    if (scan) {
      scan_indices.resize(static_cast<size_t>(scan->n_found));
      scan_counts.resize(static_cast<size_t>(scan->n_found));
      scan->write(scan_offsets.data(), scan_indices.data(), scan_counts.data(), n_threads);
    }
    offsets[0] = 0;
    for (int64_t q = 0; q < pairs.n_query; ++q) offsets[q + 1] = static_cast<int64_t>(looked_up[static_cast<size_t>(q)].size());
    for (size_t s = 0; s < scanned.size(); ++s) offsets[scanned[s] + 1] = scan_offsets[s + 1] - scan_offsets[s];
    for (int64_t q = 0; q < pairs.n_query; ++q) offsets[q + 1] += offsets[q];
    for (size_t s = 0; s < scanned.size(); ++s) {
      const int64_t begin = scan_offsets[s], n = scan_offsets[s + 1] - begin, to = offsets[scanned[s]];
      std::copy_n(scan_indices.data() + begin, n, indices + to);
      std::copy_n(scan_counts.data() + begin, n, counts + to);
    }
    const double per_query = 20.0 + 2.0 * static_cast<double>(n_found) / static_cast<double>(pairs.n_query);
    const int64_t n_tasks = task_count(pairs.n_query, per_query, n_threads);
    parallel_for(n_tasks, n_threads, [&](int64_t task) {
      for (int64_t q = pairs.n_query * task / n_tasks; q < pairs.n_query * (task + 1) / n_tasks; ++q) {
        int64_t at = offsets[q];
        for (const Key key : looked_up[static_cast<size_t>(q)]) {
          counts[at] = value_of(key);
          indices[at++] = index_of(key);
        }
        looked_up[static_cast<size_t>(q)] = {};
      }
    });
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
  found_->write(offsets, indices, counts, n_threads);
}

}  // namespace dshc::cpu
