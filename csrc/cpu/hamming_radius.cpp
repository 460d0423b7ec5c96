#include "../core/hamming_radius.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "scan.h"
#include "survivors.h"
#include "threads.h"

namespace dshc::cpu {
namespace {

// Rank values below this one are inside.
int32_t value_limit(const Pairs& pairs, int64_t radius) {
  const int64_t top = 8 * pairs.n_bytes;
  const int64_t limit = pairs.score == Score::hamming ? std::min(radius, top) + 1 : top - std::min(radius, top + 1) + 1;
  return static_cast<int32_t>(limit);
}

constexpr Marks kMarks{0, std::numeric_limits<uint16_t>::max()};

}  // namespace

void hamming_radius_count(const Pairs& pairs, int64_t radius, int64_t* found, int n_threads) {
  const Plan plan = make_plan(pairs, 1, true, n_threads);
  const uint16_t limit = static_cast<uint16_t>(value_limit(pairs, radius));
  std::vector<int64_t> partial(static_cast<size_t>(pairs.n_query * plan.n_shards), 0);
  parallel_for(plan.n_tasks(), plan.n_threads, [&](int64_t task) {
    const int64_t begin = task / plan.n_shards * plan.group, shard = task % plan.n_shards, item = shard * plan.shard;
    scan(pairs, nullptr, kMarks, begin, std::min(begin + plan.group, pairs.n_query), item,
         std::min(item + plan.shard, pairs.n_db), [&](int64_t q, int64_t, int64_t n, const uint16_t* row) {
           partial[static_cast<size_t>(q * plan.n_shards + shard)] += simd().count_below(row, n, limit);
         });
  });
  for (int64_t q = 0; q < pairs.n_query; ++q) {
    found[q] = 0;
    for (int64_t s = 0; s < plan.n_shards; ++s) found[q] += partial[static_cast<size_t>(q * plan.n_shards + s)];
  }
}

void hamming_radius_fill(const Pairs& pairs, int64_t radius, const int64_t* offsets, int64_t* indices, int32_t* counts,
                         int n_threads) {
  const int32_t limit = value_limit(pairs, radius);
  if (limit <= 0 || offsets[pairs.n_query] == 0) return;
  const int64_t largest = offsets[pairs.n_query] / std::max<int64_t>(pairs.n_query, 1) + 1;
  const Plan plan = make_plan(pairs, 30 * largest, true, n_threads);
  std::vector<std::unique_ptr<Survivors>> waiting(static_cast<size_t>(pairs.n_query * plan.n_shards));

  const auto write = [&](int64_t query) {
    std::vector<const Survivors*> shards;
    for (int64_t s = 0; s < plan.n_shards; ++s) {
      shards.push_back(waiting[static_cast<size_t>(query * plan.n_shards + s)].get());
    }
    const int64_t all = offsets[query + 1] - offsets[query];
    std::vector<uint16_t> values(static_cast<size_t>(all));
    Survivors::finish(shards.data(), plan.n_shards, all, values.data(), indices + offsets[query]);
    for (int64_t i = 0; i < all; ++i) counts[offsets[query] + i] = count_of(pairs, values[static_cast<size_t>(i)]);
    for (int64_t s = 0; s < plan.n_shards; ++s) waiting[static_cast<size_t>(query * plan.n_shards + s)].reset();
  };

  parallel_for(plan.n_tasks(), plan.n_threads, [&](int64_t task) {
    const int64_t begin = task / plan.n_shards * plan.group, end = std::min(begin + plan.group, pairs.n_query);
    const int64_t shard = task % plan.n_shards, item = shard * plan.shard;
    const auto slot = [&](int64_t q) -> std::unique_ptr<Survivors>& {
      return waiting[static_cast<size_t>(q * plan.n_shards + shard)];
    };
    for (int64_t q = begin; q < end; ++q) slot(q) = std::make_unique<Survivors>(pairs.n_db + 1, limit);
    std::vector<uint32_t> positions(static_cast<size_t>(block_items(4)));
    scan(pairs, nullptr, kMarks, begin, end, item, std::min(item + plan.shard, pairs.n_db),
         [&](int64_t q, int64_t first, int64_t n, const uint16_t* row) {
           const int64_t inside = simd().select_between(row, n, 0, static_cast<uint16_t>(limit), positions.data());
           slot(q)->add(row, first, positions.data(), inside);
         });
    if (plan.n_shards == 1) {
      for (int64_t q = begin; q < end; ++q) write(q);
    }
  });
  if (plan.n_shards > 1) parallel_for(pairs.n_query, plan.n_threads, write);
}

}  // namespace dshc::cpu
