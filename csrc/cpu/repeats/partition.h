// Whether the rows of a call repeat, and their parts where they do: equal codes and equal labels are handled once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../../core/partition_rows.h"

namespace dshc::cpu {

// A partition with its memory. Empty (n_parts 0 or Partition::kDistinct) unless `find` filled it.
class OwnedPartition {
 public:
  OwnedPartition() = default;

  // Parts the rows, or notes that there are more than max_parts different ones.
  static OwnedPartition find(const uint8_t* rows, int64_t n, int64_t row_bytes, int64_t max_parts, int n_threads) {
    OwnedPartition found;
    if (n < 1 || max_parts < 1) return found;
    if (max_parts > n) max_parts = n;
    found.members_.reset(new int64_t[static_cast<size_t>(n)]);
    found.offsets_.reset(new int64_t[static_cast<size_t>(max_parts) + 1]);
    found.n_parts_ = partition_rows(rows, n, row_bytes, max_parts, found.members_.get(), found.offsets_.get(), n_threads);
    return found;
  }

  Partition view() const { return {members_.get(), offsets_.get(), n_parts_}; }

 private:
  std::unique_ptr<int64_t[]> members_, offsets_;
  int64_t n_parts_ = 0;
};

// What about a thousand rows, spread over all, tell; looking at them takes some microseconds.
struct RowSample {
  int64_t n_rows, n_distinct, n_equal_pairs;
  int64_t n_single;  // rows that no other row of the sample equals; their share is that of rows not yet seen (Good, 1953)

  // How many different rows there seem to be among n, from the pairs of equal ones. Exact where the sample holds all;
  // INT64_MAX where no two rows of it are equal.
  int64_t estimate_distinct(int64_t n) const;
};
RowSample look_at_rows(const uint8_t* rows, int64_t n, int64_t row_bytes);

inline int64_t estimate_distinct(const uint8_t* rows, int64_t n, int64_t row_bytes) {
  return look_at_rows(rows, n, row_bytes).estimate_distinct(n);
}

// Whether each row seems to occur `times` times or more on average.
inline bool rows_repeat(const uint8_t* rows, int64_t n, int64_t row_bytes, int64_t times) {
  return estimate_distinct(rows, n, row_bytes) <= n / times;
}

}  // namespace dshc::cpu
