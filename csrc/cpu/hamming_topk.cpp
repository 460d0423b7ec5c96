#include "../core/hamming_topk.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <vector>

#include "filter_walk.h"
#include "sample.h"
#include "threads.h"

namespace dshc::cpu {
namespace {

// Memory of groups that are finished.
class SpareGroups {
 public:
  std::vector<Survivors> take(size_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (groups_.empty()) return std::vector<Survivors>(size);
    std::vector<Survivors> group = std::move(groups_.back());
    groups_.pop_back();
    return group;
  }
  void give(std::vector<Survivors>&& group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    groups_.push_back(std::move(group));
  }

 private:
  std::mutex mutex_;
  std::vector<std::vector<Survivors>> groups_;
};

class TopK {
 public:
  TopK(const Pairs& pairs, int64_t k, int32_t* counts, int64_t* indices, int n_threads)
      : pairs_(pairs), k_(k), counts_(counts), indices_(indices), limits_(likely_limits(pairs, k, n_threads)),
        plan_(make_filter_plan(pairs, 8 * (2 * k + 8192), n_threads)) {
  }

  void run() {
    // Survivors of all shards wait for the merge; with one shard a group is finished where it was scanned, and the next
    // group takes over its memory.
    std::vector<Survivors> waiting(plan_.n_shards > 1 ? static_cast<size_t>(pairs_.n_query * plan_.n_shards) : 0);
    parallel_for(plan_.n_tasks(), plan_.n_threads, [&](int64_t task) {
      const int64_t begin = task / plan_.n_shards * plan_.group, end = std::min(begin + plan_.group, pairs_.n_query);
      const int64_t shard = task % plan_.n_shards, item = shard * plan_.shard;
      std::vector<Survivors> group;
      if (plan_.n_shards == 1) group = spare_.take(static_cast<size_t>(plan_.group));
      const auto survivors = [&](int64_t q) -> Survivors& {
        return plan_.n_shards == 1 ? group[static_cast<size_t>(q - begin)]
                                   : waiting[static_cast<size_t>(q * plan_.n_shards + shard)];
      };
      for (int64_t q = begin; q < end; ++q) survivors(q).start(k_, limits_[static_cast<size_t>(q)]);
      filter_walk(pairs_, begin, end, item, std::min(item + plan_.shard, pairs_.n_db), survivors);
      if (plan_.n_shards > 1) return;
      for (int64_t q = begin; q < end; ++q) write(q, &survivors(q), 1);
      spare_.give(std::move(group));
    });
    if (plan_.n_shards == 1) return;
    parallel_for(pairs_.n_query, plan_.n_threads, [&](int64_t query) {
      write(query, waiting.data() + query * plan_.n_shards, plan_.n_shards);
    });
  }

 private:
  void write(int64_t query, const Survivors* shards, int64_t n_shards) const {
    int32_t* counts = counts_ + query * k_;
    int64_t* indices = indices_ + query * k_;
    int64_t found = Survivors::finish(shards, n_shards, k_, counts, indices);
    const int32_t no_limit = n_rank_values(pairs_);
    if (found < k_ && limits_[static_cast<size_t>(query)] < no_limit) {  // the guess was too low for this query
      Survivors all(k_, no_limit);
      filter_walk(pairs_, query, query + 1, 0, pairs_.n_db, [&](int64_t) -> Survivors& { return all; });
      found = Survivors::finish(&all, 1, k_, counts, indices);
    }
    if (pairs_.score == Score::overlap) {
      for (int64_t i = 0; i < found; ++i) counts[i] = count_of(pairs_, counts[i]);
    }
    const int32_t fill = pairs_.score == Score::hamming ? std::numeric_limits<int32_t>::max() : -1;
    std::fill(counts + found, counts + k_, fill);
    std::fill(indices + found, indices + k_, int64_t{-1});
  }

  const Pairs& pairs_;
  int64_t k_;
  int32_t* counts_;
  int64_t* indices_;
  std::vector<int32_t> limits_;
  Plan plan_;
  SpareGroups spare_;
};

}  // namespace

void hamming_topk(const Pairs& pairs, int64_t k, int32_t* counts, int64_t* indices, int n_threads) {
  TopK(pairs, k, counts, indices, n_threads).run();
}

}  // namespace dshc::cpu
