#include "../core/hamming_topk.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "scan.h"
#include "survivors.h"
#include "threads.h"

namespace dshc::cpu {

void hamming_topk(const Pairs& pairs, int64_t k, int32_t* counts, int64_t* indices, int n_threads) {
  const Plan plan = make_plan(pairs, 30 * k, true, n_threads);
  const int32_t limit = n_rank_values(pairs);
  const Marks marks{0, std::numeric_limits<uint16_t>::max()};

  const auto write = [&](int64_t query, const Survivors* const* shards) {
    std::vector<uint16_t> values(static_cast<size_t>(k));
    const int64_t found = Survivors::finish(shards, plan.n_shards, k, values.data(), indices + query * k);
    for (int64_t i = 0; i < found; ++i) counts[query * k + i] = count_of(pairs, values[static_cast<size_t>(i)]);
    const int32_t fill = pairs.score == Score::hamming ? std::numeric_limits<int32_t>::max() : -1;
    std::fill(counts + query * k + found, counts + (query + 1) * k, fill);
    std::fill(indices + query * k + found, indices + (query + 1) * k, int64_t{-1});
  };

  // Survivors of all shards wait for the merge; with one shard a group is finished where it was scanned.
  std::vector<std::unique_ptr<Survivors>> waiting(
      plan.n_shards > 1 ? static_cast<size_t>(pairs.n_query * plan.n_shards) : 0);
  parallel_for(plan.n_tasks(), plan.n_threads, [&](int64_t task) {
    const int64_t begin = task / plan.n_shards * plan.group, end = std::min(begin + plan.group, pairs.n_query);
    const int64_t shard = task % plan.n_shards, item = shard * plan.shard;
    std::vector<std::unique_ptr<Survivors>> survivors;
    for (int64_t q = begin; q < end; ++q) survivors.push_back(std::make_unique<Survivors>(k, limit));
    std::vector<uint32_t> positions(static_cast<size_t>(block_items(4)));
    scan(pairs, nullptr, marks, begin, end, item, std::min(item + plan.shard, pairs.n_db),
         [&](int64_t q, int64_t first, int64_t n, const uint16_t* row) {
           Survivors& mine = *survivors[static_cast<size_t>(q - begin)];
           mine.add(row, first, positions.data(), simd().select_between(row, n, 0, mine.bound(), positions.data()));
         });
    for (int64_t q = begin; q < end; ++q) {
      auto& mine = survivors[static_cast<size_t>(q - begin)];
      if (plan.n_shards == 1) {
        const Survivors* only = mine.get();
        write(q, &only);
      } else {
        waiting[static_cast<size_t>(q * plan.n_shards + shard)] = std::move(mine);
      }
    }
  });
  if (plan.n_shards == 1) return;
  parallel_for(pairs.n_query, plan.n_threads, [&](int64_t query) {
    std::vector<const Survivors*> shards;
    for (int64_t s = 0; s < plan.n_shards; ++s) {
      shards.push_back(waiting[static_cast<size_t>(query * plan.n_shards + s)].get());
    }
    write(query, shards.data());
  });
}

}  // namespace dshc::cpu
