// The k best of the items that a query meets in any order. As in survivors.h selection is counting; but an item with the k-th
// rank value may come after one of a larger index, so that all of that value are kept to the end.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/filter.h"

namespace dshc::cpu {

class CountedNearest {
 public:
  // Begins anew, in the memory it has: the k best of items with rank values below `n_values`.
  void start(int64_t k, int32_t n_values) {
    k_ = k;
    worst_ = n_values - 1;
    at_most_worst_ = 0;
    keys_.clear();
    counts_.assign(static_cast<size_t>(n_values), 0);
  }

  // Items of this rank value and above can no longer be in the answer.
  int32_t bound() const { return worst_ + 1; }
  bool full() const { return at_most_worst_ >= k_; }
  // The k-th best rank value, once full().
  int32_t worst() const { return worst_; }

  void add(Key key) {
    const int32_t value = value_of(key);
    if (value > worst_) return;
    keys_.push_back(key);
    ++counts_[static_cast<size_t>(value)];
    ++at_most_worst_;
    while (worst_ > 0 && at_most_worst_ - counts_[static_cast<size_t>(worst_)] >= k_) {
      at_most_worst_ -= counts_[static_cast<size_t>(worst_--)];
    }
    if (static_cast<int64_t>(keys_.size()) > 2 * at_most_worst_ + 4096) drop_hopeless();
  }

  // The answer, ordered by (rank value, index): min(k, items met) keys.
  const std::vector<Key>& finish() {
    drop_hopeless();
    if (static_cast<int64_t>(keys_.size()) > k_) {
      std::nth_element(keys_.begin(), keys_.begin() + k_, keys_.end());
      keys_.resize(static_cast<size_t>(k_));
    }
    std::sort(keys_.begin(), keys_.end());
    return keys_;
  }

 private:
  void drop_hopeless() {
    const Key limit = make_key(static_cast<uint64_t>(worst_) + 1, 0);
    keys_.erase(std::remove_if(keys_.begin(), keys_.end(), [&](Key key) { return key >= limit; }), keys_.end());
  }

  int64_t k_ = 0;
  int32_t worst_ = 0;
  int64_t at_most_worst_ = 0;
  std::vector<int64_t> counts_;
  std::vector<Key> keys_;
};

}  // namespace dshc::cpu
