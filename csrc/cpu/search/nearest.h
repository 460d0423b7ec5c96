// The k nearest items of one query by (distance, index), of those that come in order of index. Distances are floats, so that
// they are selected and sorted by digits of their bits, or, where there are few, by comparison.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "weighted_query.h"

namespace dshc::cpu {

struct Candidate {
  int64_t index;
  uint32_t bits;  // of the distance
};

class Nearest {
 public:
  // Of the items whose distances have bits below `limit`.
  Nearest(int64_t k, uint32_t limit) : k_(static_cast<size_t>(k)), capacity_(2 * k_ + kSpare), limit_(limit) {}

  int64_t size() const { return static_cast<int64_t>(found_.size()); }

  // Distances whose bits are not below it can no longer enter.
  uint32_t limit() const { return limit_; }

  void take(uint32_t bits, int64_t index) {
    if (bits >= limit_) return;
    found_.push_back({index, bits});
    if (found_.size() == capacity_) drop_hopeless();
  }
  // Of items that all come later.
  void take_all(Nearest& later);

  // The limit where k items are known and have not been looked at since.
  void settle() {
    if (limit_ == kNoLimit && found_.size() >= k_) drop_hopeless();
  }

  // In order, at most k. Nothing can be taken after.
  const std::vector<Candidate>& finish();

 private:
  static constexpr size_t kSpare = 64;
  static constexpr size_t kFew = 4096;  // candidates that are best compared

  bool few() const { return capacity_ <= kFew; }
  void drop_hopeless();

  size_t k_, capacity_;
  uint32_t limit_;
  std::vector<Candidate> found_;  // where there are not few, those of equal distance in order of index
};

}  // namespace dshc::cpu
