#include "survivors.h"

#include <algorithm>

namespace dshc::cpu {

void Survivors::drop_hopeless() {
  size_t kept = 0;
  for (size_t i = 0; i < values_.size(); ++i) {
    if (values_[i] > worst_) continue;
    values_[kept] = values_[i];
    indices_[kept++] = indices_[i];
  }
  values_.resize(kept);
  indices_.resize(kept);
  std::fill(counts_.begin() + worst_ + 1, counts_.end(), 0);
}

int64_t Survivors::finish(const Survivors* const* shards, int64_t n_shards, int64_t k, uint16_t* values,
                          int64_t* indices) {
  const size_t limit = shards[0]->counts_.size();
  std::vector<int64_t> place(limit + 1, 0);  // where the next item of a value goes
  for (int64_t s = 0; s < n_shards; ++s) {
    for (size_t v = 0; v < limit; ++v) place[v + 1] += shards[s]->counts_[v];
  }
  for (size_t v = 0; v < limit; ++v) place[v + 1] += place[v];
  const int64_t found = std::min(k, place[limit]);
  for (int64_t s = 0; s < n_shards; ++s) {
    const Survivors& shard = *shards[s];
    for (size_t i = 0; i < shard.values_.size(); ++i) {
      const int64_t at = place[shard.values_[i]]++;
      if (at >= k) continue;
      values[at] = shard.values_[i];
      indices[at] = shard.indices_[i];
    }
  }
  return found;
}

}  // namespace dshc::cpu
