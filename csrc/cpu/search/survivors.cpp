#include "survivors.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"

namespace dshc::cpu {

void Survivors::grow(size_t more) {
  // Pages that are never written cost nothing, copies do.
  const size_t capacity = std::max({2 * capacity_, end_ + more, size_t{1024}});
  std::unique_ptr<Key[]> keys(new Key[capacity]);  // not filled with zeros: it is written before it is read
  if (end_ > 0) std::memcpy(keys.get(), keys_.get(), end_ * sizeof(Key));
  keys_ = std::move(keys);
  capacity_ = capacity;
}

void Survivors::drop_hopeless() {
  const Key limit = make_key(static_cast<uint64_t>(worst_) + 1, 0);
  size_t kept = 0;
  for (size_t i = 0; i < end_; ++i) {
    keys_[kept] = keys_[i];
    kept += keys_[i] < limit;
  }
  end_ = kept;
  std::fill(counts_.begin() + worst_ + 1, counts_.end(), 0);
}

int64_t Survivors::finish(const Survivors* shards, int64_t n_shards, int64_t k, int32_t* values,
                          int64_t* indices) {
  const size_t limit = shards[0].counts_.size();
  std::vector<int64_t> place(limit + 1, 0);  // where the next item of a value goes
  for (int64_t s = 0; s < n_shards; ++s) {
    for (size_t v = 0; v < limit; ++v) place[v + 1] += shards[s].counts_[v];
  }
  for (size_t v = 0; v < limit; ++v) place[v + 1] += place[v];
  const int64_t found = std::min(k, place[limit]);
  for (int64_t s = 0; s < n_shards; ++s) {
    const Survivors& shard = shards[s];
    in_stretches(0, shard.size(), 2.0, [&](int64_t first, int64_t last) {
      for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
        const Key key = shard.keys_[i];
        const int64_t at = place[value_of(key)]++;
        if (at >= k) continue;
        values[at] = value_of(key);
        indices[at] = index_of(key);
      }
    });
  }
  return found;
}

void Survivors::move_sorted(Key* keys) {
  constexpr size_t kUsual = 16384;
  size_t place = 0;
  for (int64_t& count : counts_) {  // from here on: where the next item of a value goes
    const size_t n = static_cast<size_t>(count);
    count = static_cast<int64_t>(place);
    place += n;
  }
  in_stretches(0, size(), 2.0, [&](int64_t first, int64_t last) {
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) keys[counts_[value_of(keys_[i])]++] = keys_[i];
  });
  end_ = 0;
  if (capacity_ <= kUsual) return;
  keys_.reset();
  capacity_ = 0;
}

}  // namespace dshc::cpu
