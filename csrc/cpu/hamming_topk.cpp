#include "../core/hamming_topk.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "call/call.h"
#include "call/threads.h"
#include "repeats/allowed_items.h"
#include "repeats/equal_queries.h"
#include "search/grouped.h"
#include "search/sample.h"
#include "search/walk.h"

namespace dshc::cpu {
namespace {

// Where the answers go: k places for each query of the call, of which `queries` has the distinct ones.
struct Answers {
  const EqualQueries& queries;
  Score score;
  int64_t k, top;  // top: the largest rank value
  int32_t* counts;
  int64_t* indices;

  int32_t* counts_of(int64_t distinct) const { return counts + queries.first(distinct) * k; }
  int64_t* indices_of(int64_t distinct) const { return indices + queries.first(distinct) * k; }

  // Rank values to counts, item numbers of a copy to those of the database, and the fill where fewer than k were found.
  void finish(int64_t distinct, int64_t found, const std::vector<int64_t>& items) const {
    int32_t* values = counts_of(distinct);
    int64_t* numbers = indices_of(distinct);
    if (score == Score::overlap) {
      for (int64_t i = 0; i < found; ++i) values[i] = static_cast<int32_t>(top - values[i]);
    }
    if (!items.empty()) {
      for (int64_t i = 0; i < found; ++i) numbers[i] = items[static_cast<size_t>(numbers[i])];
    }
    const int32_t fill = score == Score::hamming ? std::numeric_limits<int32_t>::max() : -1;
    std::fill(values + found, values + k, fill);
    std::fill(numbers + found, numbers + k, int64_t{-1});
  }
};

class TopK {
 public:
  TopK(const Pairs& pairs, const Answers& answers, const std::vector<int64_t>& items, int n_threads)
      : pairs_(pairs),
        answers_(answers),
        items_(items),
        k_(answers.k),
        limits_(likely_limits(pairs, k_, n_threads)),
        tasks_(cut_search(pairs, 8 * (2 * k_ + 8192), n_threads)) {}

  void run() {
    // Survivors of all shards wait for the merge; with one shard a group is finished where it was scanned, and the next
    // group takes over its memory.
    std::vector<Survivors> waiting(tasks_.n_shards > 1 ? static_cast<size_t>(pairs_.n_query * tasks_.n_shards) : 0);
    parallel_for(tasks_.n_tasks(), tasks_.n_threads, [&](int64_t task) {
      const int64_t begin = task / tasks_.n_shards * tasks_.group, end = std::min(begin + tasks_.group, pairs_.n_query);
      const int64_t shard = task % tasks_.n_shards, item = shard * tasks_.shard;
      std::vector<Survivors> group;
      if (tasks_.n_shards == 1) group = spare_.take(tasks_.group);
      const auto survivors = [&](int64_t q) -> Survivors& {
        return tasks_.n_shards == 1 ? group[static_cast<size_t>(q - begin)]
                                   : waiting[static_cast<size_t>(q * tasks_.n_shards + shard)];
      };
      for (int64_t q = begin; q < end; ++q) survivors(q).start(k_, limits_[static_cast<size_t>(q)]);
      filter_walk(pairs_, begin, end, item, std::min(item + tasks_.shard, pairs_.n_db), survivors);
      if (tasks_.n_shards > 1) return;
      for (int64_t q = begin; q < end; ++q) write(q, &survivors(q), 1);
      spare_.give(std::move(group));
    });
    if (tasks_.n_shards == 1) return;
    parallel_for(pairs_.n_query, tasks_.n_threads, [&](int64_t query) {
      write(query, waiting.data() + query * tasks_.n_shards, tasks_.n_shards);
    });
  }

 private:
  void write(int64_t query, const Survivors* shards, int64_t n_shards) const {
    int32_t* values = answers_.counts_of(query);
    int64_t* indices = answers_.indices_of(query);
    int64_t found = Survivors::finish(shards, n_shards, k_, values, indices);
    const int32_t no_limit = n_rank_values(pairs_);
    if (found < k_ && limits_[static_cast<size_t>(query)] < no_limit) {  // the guess was too low for this query
      Survivors all(k_, no_limit);
      filter_walk(pairs_, query, query + 1, 0, pairs_.n_db, [&](int64_t) -> Survivors& { return all; });
      found = Survivors::finish(&all, 1, k_, values, indices);
    }
    answers_.finish(query, found, items_);
  }

  const Pairs& pairs_;
  const Answers& answers_;
  const std::vector<int64_t>& items_;
  int64_t k_;
  std::vector<int32_t> limits_;
  Tasks tasks_;
  SpareSurvivors spare_;
};

void grouped_topk(const GroupedRanking& grouped, const Pairs& pairs, const Answers& answers,
                  const std::vector<int64_t>& items, int n_threads) {
  const int64_t found = std::min(answers.k, pairs.n_db), n_tasks = std::min<int64_t>(pairs.n_query, 4 * n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    GroupedRanking::Ranker ranker(grouped);
    for (int64_t q = pairs.n_query * task / n_tasks; q < pairs.n_query * (task + 1) / n_tasks; ++q) {
      ranker.rank(q);
      ranker.write(found, answers.counts_of(q), answers.indices_of(q));
      answers.finish(q, found, items);
    }
  });
}

}  // namespace

void hamming_topk(const Pairs& all_pairs, int64_t k, int32_t* counts, int64_t* indices, int n_threads) {
  const Call call;
  const EqualQueries queries(all_pairs, n_threads);
  const AllowedItems allowed(queries.pairs());
  const Pairs& pairs = allowed.pairs();
  const Answers answers{queries, pairs.score, k, 8 * pairs.n_bytes, counts, indices};
  const GroupedRanking grouped(pairs, n_threads);
  if (pairs.n_db == 0) {
    for (int64_t q = 0; q < pairs.n_query; ++q) answers.finish(q, 0, allowed.items());
  } else if (grouped.pays()) {
    grouped_topk(grouped, pairs, answers, allowed.items(), n_threads);
  } else {
    TopK(pairs, answers, allowed.items(), n_threads).run();
  }
  queries.copy_answers(counts, indices, n_threads, [&](int64_t query) { return query * k; }, [&](int64_t) { return k; });
}

}  // namespace dshc::cpu
