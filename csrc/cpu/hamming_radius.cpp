#include "../core/hamming_radius.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "filter_walk.h"
#include "threads.h"

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
  Pairs pairs;
  Plan plan;
  std::vector<Survivors> survivors;  // [n_query, n_shards]
  int64_t n_found = 0;

  Survivors& at(int64_t query, int64_t shard) {
    return survivors[static_cast<size_t>(query * plan.n_shards + shard)];
  }
};

RadiusSearch::RadiusSearch(const Pairs& pairs, int64_t radius, int n_threads) {
  std::unique_ptr<Found> found(new Found{pairs, make_filter_plan(pairs, 1, n_threads), {}});
  const Plan& plan = found->plan;
  const int32_t limit = value_limit(pairs, radius);
  found->survivors.resize(static_cast<size_t>(pairs.n_query * plan.n_shards));
  parallel_for(limit > 0 ? plan.n_tasks() : 0, plan.n_threads, [&](int64_t task) {
    const int64_t begin = task / plan.n_shards * plan.group, end = std::min(begin + plan.group, pairs.n_query);
    const int64_t shard = task % plan.n_shards, item = shard * plan.shard;
    // With k beyond the database no bound falls and nothing is dropped.
    for (int64_t q = begin; q < end; ++q) found->at(q, shard).start(pairs.n_db + 1, limit);
    filter_walk(pairs, begin, end, item, std::min(item + plan.shard, pairs.n_db),
                [&](int64_t q) -> Survivors& { return found->at(q, shard); });
  });
  for (const auto& survivors : found->survivors) found->n_found += survivors.size();
  found_ = found.release();
}

RadiusSearch::~RadiusSearch() { delete found_; }

int64_t RadiusSearch::n_found() const { return found_->n_found; }

void RadiusSearch::write(int64_t* offsets, int64_t* indices, int32_t* counts, int n_threads) {
  const Pairs& pairs = found_->pairs;
  offsets[0] = 0;
  for (int64_t q = 0; q < pairs.n_query; ++q) {
    offsets[q + 1] = offsets[q];
    for (int64_t s = 0; s < found_->plan.n_shards && found_->n_found > 0; ++s) offsets[q + 1] += found_->at(q, s).size();
  }
  if (found_->n_found == 0) return;
  parallel_for(pairs.n_query, n_threads, [&](int64_t query) {
    const int64_t begin = offsets[query], end = offsets[query + 1];
    Survivors* shards = &found_->at(query, 0);
    Survivors::finish(shards, found_->plan.n_shards, end - begin, counts + begin, indices + begin);
    for (int64_t i = begin; i < end; ++i) counts[i] = count_of(pairs, counts[i]);
    for (int64_t s = 0; s < found_->plan.n_shards; ++s) shards[s] = Survivors();
  });
}

}  // namespace dshc::cpu
