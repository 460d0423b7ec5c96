#include "../core/hamming_topk.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "call/call.h"
#include "call/fresh_memory.h"
#include "search/cluster_search.h"
#include "search/sample.h"
#include "search/search.h"
#include "search/table_search.h"
#include "search/whole.h"

namespace dshc::cpu {
namespace {

// Where the answers go: k places for each query of the call, of which `search` has the distinct ones.
struct Answers {
  const Search& search;
  int64_t k;
  int32_t* counts;
  int64_t* indices;

  int32_t* counts_of(int64_t distinct) const { return counts + search.queries().first(distinct) * k; }
  int64_t* indices_of(int64_t distinct) const { return indices + search.queries().first(distinct) * k; }

  // Rank values to counts, item numbers of a copy to those of the database, and the fill where fewer than k were found.
  void finish(int64_t distinct, int64_t found) const {
    int32_t* values = counts_of(distinct);
    int64_t* numbers = indices_of(distinct);
    const Pairs& pairs = search.pairs();
    if (pairs.score == Score::overlap) {
      for (int64_t i = 0; i < found; ++i) values[i] = count_of(pairs, values[i]);
    }
    const std::vector<int64_t>& items = search.items();
    if (!items.empty()) {
      for (int64_t i = 0; i < found; ++i) numbers[i] = items[static_cast<size_t>(numbers[i])];
    }
    const int32_t fill = pairs.score == Score::hamming ? std::numeric_limits<int32_t>::max() : -1;
    std::fill(values + found, values + k, fill);
    std::fill(numbers + found, numbers + k, int64_t{-1});
  }
};

// The k best of each query, below a limit that was guessed.
class KeepBest {
 public:
  KeepBest(const Answers& answers, int n_threads)
      : answers_(answers),
        plan_(answers.search.plan()),
        pairs_(answers.search.pairs()),
        limits_(likely_limits(plan_, pairs_, answers.k, n_threads)) {}

  void start(int64_t query, Survivors& survivors) const {
    survivors.start(answers_.k, limits_[static_cast<size_t>(query)]);
  }

  void take_group(int64_t /*group*/, int64_t begin, int64_t end, const Survivors* found) const {
    for (int64_t q = begin; q < end; ++q) write(q, found + (q - begin), 1);
  }

  void take_shards(const std::vector<Survivors>& found) const {
    const int64_t n_shards = plan_.tasks.n_shards;
    parallel_for(pairs_.n_query, plan_.tasks.n_threads,
                 [&](int64_t query) { write(query, found.data() + query * n_shards, n_shards); });
  }

 private:
  void write(int64_t query, const Survivors* shards, int64_t n_shards) const {
    int32_t* values = answers_.counts_of(query);
    int64_t* indices = answers_.indices_of(query);
    int64_t found = Survivors::finish(shards, n_shards, answers_.k, values, indices);
    const int32_t no_limit = n_rank_values(pairs_);
    if (found < answers_.k && limits_[static_cast<size_t>(query)] < no_limit) {  // the guess was too low for this query
      Survivors all(answers_.k, no_limit);
      FilterWalk(plan_, pairs_, query, query + 1).run(0, pairs_.n_db, {&all, query, 1});
      found = Survivors::finish(&all, 1, answers_.k, values, indices);
    }
    answers_.finish(query, found);
  }

  const Answers& answers_;
  const Plan& plan_;
  const Pairs& pairs_;
  std::vector<int32_t> limits_;
};

void scan_topk(const Pairs& all_pairs, int64_t k, int32_t* counts, int64_t* indices, int n_threads) {
  const Search search_of_call = Search::topk(all_pairs, k, n_threads);
  const Pairs& pairs = search_of_call.pairs();
  const Answers answers{search_of_call, k, counts, indices};
  switch (search_of_call.plan().route) {
    case Route::empty:
      for (int64_t q = 0; q < pairs.n_query; ++q) answers.finish(q, 0);
      break;
    case Route::grouped: {
      const int64_t found = std::min(k, pairs.n_db);
      search_of_call.grouped().rank_all(n_threads, [&](GroupedRanking::Ranker& ranker, int64_t q) {
        ranker.write(found, answers.counts_of(q), answers.indices_of(q));
        answers.finish(q, found);
      });
      break;
    }
    case Route::whole: {
      const Tasks& tasks = search_of_call.plan().tasks;
      const int64_t found = std::min(k, pairs.n_db);
      parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
        WholeRanking ranking(search_of_call.plan(), pairs);
        for (int64_t q = group * tasks.group; q < std::min((group + 1) * tasks.group, pairs.n_query); ++q) {
          ranking.write(q, found, answers.counts_of(q), answers.indices_of(q));
          answers.finish(q, found);
        }
      });
      break;
    }
    case Route::filtered: {
      KeepBest keep(answers, n_threads);
      search(search_of_call.plan(), pairs, keep);
      break;
    }
  }
  search_of_call.queries().copy_answers(
      counts, indices, n_threads, [&](int64_t query) { return query * k; }, [&](int64_t) { return k; });
}

// The queries that tables or clusters have given up, scanned together.
void scan_left(const Pairs& pairs, int64_t k, const std::vector<int64_t>& left, int32_t* counts, int64_t* indices,
               int n_threads) {
  if (left.empty()) return;
  if (static_cast<int64_t>(left.size()) == pairs.n_query) return scan_topk(pairs, k, counts, indices, n_threads);
  std::vector<uint8_t> codes;
  const Pairs some = with_queries(pairs, left, codes);
  const size_t n = static_cast<size_t>(k);
  std::vector<int32_t> some_counts(left.size() * n);
  std::vector<int64_t> some_indices(left.size() * n);
  scan_topk(some, k, some_counts.data(), some_indices.data(), n_threads);
  for (size_t q = 0; q < left.size(); ++q) {
    std::memcpy(counts + left[q] * k, some_counts.data() + q * n, n * sizeof *counts);
    std::memcpy(indices + left[q] * k, some_indices.data() + q * n, n * sizeof *indices);
  }
}

}  // namespace

void hamming_topk(const Pairs& pairs, int64_t k, int32_t* counts, int64_t* indices, int n_threads) {
  const Call call;
  expect_writes(counts, 4 * pairs.n_query * k);
  expect_writes(indices, 8 * pairs.n_query * k);
  const ClusterPlan clusters = plan_clusters_topk(pairs, k, n_threads);
  const TablePlan plan = plan_tables_topk(pairs, k, level(), n_threads);
  if (!clusters.asks && !plan.asks) return scan_topk(pairs, k, counts, indices, n_threads);
  const TakeAnswer take = [&](int64_t query, const std::vector<Key>& keys) {
    int32_t* values = counts + query * k;
    int64_t* items = indices + query * k;
    for (size_t i = 0; i < keys.size(); ++i) {
      values[i] = value_of(keys[i]);
      items[i] = index_of(keys[i]);
    }
    std::fill(values + keys.size(), values + k, std::numeric_limits<int32_t>::max());
    std::fill(items + keys.size(), items + k, int64_t{-1});
  };
  const std::vector<int64_t> left =
      clusters.asks ? cluster_topk(clusters, pairs, k, take) : table_topk(plan, pairs, k, take);
  scan_left(pairs, k, left, counts, indices, n_threads);
}

}  // namespace dshc::cpu
