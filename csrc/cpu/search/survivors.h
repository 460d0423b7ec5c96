// Items of one query that may still be in its answer, kept flat and in order of index. There are only 8 * n_bytes + 1
// rank values, so that selection is counting: a falling bound lets fewer and fewer items in, and the final order is one
// counting sort, which is stable and therefore ordered by (rank value, index). No heap, no slots for each distance; the
// cost stays linear up to k = n.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "../kernels/filter.h"

namespace dshc::cpu {

// How far the shards of a database have come with one query. Once one has its k items of at most a value, no shard needs
// items above it, and those behind it, whose equals come too late, none of that value either.
class SharedBound {
 public:
  // `shard` has k items of at most `value`.
  void lower(int32_t value, int32_t shard) {
    const int64_t mine = int64_t{value} << 32 | shard;
    int64_t known = best_.load(std::memory_order_relaxed);
    while (mine < known && !best_.compare_exchange_weak(known, mine, std::memory_order_relaxed)) {
    }
  }
  // The value at and above which nothing of `shard` can enter; a moment late does no harm.
  int64_t of(int32_t shard) const {
    const int64_t best = best_.load(std::memory_order_relaxed);
    return (best >> 32) + (static_cast<int32_t>(best) > shard);
  }

 private:
  std::atomic<int64_t> best_{std::numeric_limits<int64_t>::max()};
};

// Of whole cache lines: those of one query in several shards lie side by side, and each is written at every hit.
class alignas(64) Survivors {
 public:
  Survivors() = default;
  Survivors(int64_t k, int32_t limit) { start(k, limit); }

  // Begins anew, in the memory it has: wants the k best of the items whose rank value is below `limit`.
  void start(int64_t k, int32_t limit) {
    k_ = k;
    bound_ = limit;
    worst_ = limit - 1;
    at_most_worst_ = 0;
    end_ = 0;
    counts_.assign(static_cast<size_t>(limit), 0);
    shared_ = nullptr;
  }

  // From here on the bound falls with those of the other shards too; `shared` must outlive the walk.
  void share(SharedBound* shared, int32_t shard) {
    shared_ = shared;
    shard_ = shard;
  }

  // Values at or above this one can no longer enter.
  uint16_t bound() const { return static_cast<uint16_t>(bound_); }
  int64_t size() const { return static_cast<int64_t>(end_); }

  // Where the next keys go: room for n of them.
  Key* room(int64_t n) {
    if (end_ + static_cast<size_t>(n) > capacity_) grow(static_cast<size_t>(n));
    return keys_.get() + end_;
  }

  // Takes the keys written up to `end`, which come in order of index.
  void take(const Key* end) {
    const size_t new_end = static_cast<size_t>(end - keys_.get());
    const int64_t n = static_cast<int64_t>(new_end - end_);
    if (n == 0) return;
    for (size_t i = end_; i < new_end; ++i) ++counts_[value_of(keys_[i])];
    at_most_worst_ += n;
    end_ = new_end;
    // Once k items have at most the value `worst`, a later one of that value is too late.
    while (worst_ > 0 && at_most_worst_ - counts_[static_cast<size_t>(worst_)] >= k_) {
      at_most_worst_ -= counts_[static_cast<size_t>(worst_--)];
    }
    if (at_most_worst_ >= k_ && worst_ < bound_) {
      bound_ = worst_;
      if (shared_) shared_->lower(bound_, shard_);
    }
    if (shared_) bound_ = static_cast<int32_t>(std::min<int64_t>(bound_, shared_->of(shard_)));
    if (end_ > 2 * static_cast<size_t>(k_) + 4096) drop_hopeless();
  }

  // The rank value of the k-th best, or -1 if fewer than k were found.
  int32_t kth_value() const { return at_most_worst_ >= k_ ? worst_ : -1; }

  // Writes the best of the shards' survivors (shards in order of index): their rank values and indices;
  // returns how many there are, at most k.
  static int64_t finish(const Survivors* shards, int64_t n_shards, int64_t k, int32_t* values, int64_t* indices);

  // Writes all size() keys in ascending order, then begins with nothing; memory that an unusual query took is given back.
  void move_sorted(Key* keys);

 private:
  void grow(size_t more);
  void drop_hopeless();

  int64_t k_ = 0;
  int32_t bound_ = 0, worst_ = 0;
  int64_t at_most_worst_ = 0;  // survivors with a value of at most worst_
  std::vector<int64_t> counts_;
  std::unique_ptr<Key[]> keys_;
  size_t end_ = 0, capacity_ = 0;
  SharedBound* shared_ = nullptr;
  int32_t shard_ = 0;
};

// The survivors of neighbouring queries, from `begin` on, as they lie in an array.
struct SurvivorsOf {
  Survivors* first;
  int64_t begin, stride;
  Survivors& operator()(int64_t query) const { return first[(query - begin) * stride]; }
};

// Survivors of groups that are finished: the next group uses their memory again.
class SpareSurvivors {
 public:
  std::vector<Survivors> take(int64_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (groups_.empty()) return std::vector<Survivors>(static_cast<size_t>(size));
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

}  // namespace dshc::cpu
