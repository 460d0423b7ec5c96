// Items of one query that may still be in its answer, kept flat and in order of index. There are only 8 * n_bytes + 1
// rank values, so that selection is counting: a falling bound lets fewer and fewer items in, and the final order is one
// counting sort, which is stable and therefore ordered by (rank value, index). No heap, no slots for each distance; the
// cost stays linear up to k = n.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dshc::cpu {

class Survivors {
 public:
  // Wants the k best; only values below `limit` count at all.
  Survivors(int64_t k, int32_t limit) : k_(k), limit_(limit), bound_(limit), counts_(static_cast<size_t>(limit), 0) {
    worst_ = limit - 1;
  }

  // Values at or above this one can no longer enter.
  uint16_t bound() const { return static_cast<uint16_t>(bound_); }

  void add(const uint16_t* row, int64_t first, const uint32_t* positions, int64_t n) {
    if (n == 0) return;
    const size_t old = values_.size();
    values_.resize(old + static_cast<size_t>(n));
    indices_.resize(old + static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const uint16_t value = row[positions[i]];
      values_[old + static_cast<size_t>(i)] = value;
      indices_[old + static_cast<size_t>(i)] = first + positions[i];
      ++counts_[value];
    }
    at_most_worst_ += n;
    // Items come in order of index: once k items have at most the value `worst`, a later one of that value is too late.
    while (worst_ > 0 && at_most_worst_ - counts_[static_cast<size_t>(worst_)] >= k_) {
      at_most_worst_ -= counts_[static_cast<size_t>(worst_--)];
    }
    if (at_most_worst_ >= k_) bound_ = worst_;
    if (values_.size() > 2 * static_cast<size_t>(k_) + 4096) drop_hopeless();
  }

  // Writes the best of the shards' survivors (in order of index); returns how many there are, at most k.
  static int64_t finish(const Survivors* const* shards, int64_t n_shards, int64_t k, uint16_t* values, int64_t* indices);

 private:
  void drop_hopeless();

  int64_t k_;
  int32_t limit_, bound_, worst_;
  int64_t at_most_worst_ = 0;  // survivors with a value of at most worst_
  std::vector<int64_t> counts_;
  std::vector<uint16_t> values_;
  std::vector<int64_t> indices_;
};

}  // namespace dshc::cpu
