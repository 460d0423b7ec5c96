// Counts of the marked values of rows: slot v for items of rank value v, slot v + n_values for relevant ones, one last
// slot for those not allowed. Four tables take turns, because two increments of one counter in a row wait for each other.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "scan.h"

namespace dshc::cpu {

inline Marks histogram_marks(const Pairs& pairs) {
  const int32_t n_values = n_rank_values(pairs);
  return {static_cast<uint16_t>(n_values), static_cast<uint16_t>(2 * n_values)};
}

constexpr int kTables = 4;

// Adds the values of a row to kTables tables of n_slots counters each; a value's count is the sum over the tables.
inline void count_values(uint32_t* tables, int64_t n_slots, const uint16_t* row, int64_t n) {
  uint32_t *a = tables, *b = a + n_slots, *c = b + n_slots, *d = c + n_slots;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t four[2];  // one load for four values: the loop is bound by its loads and stores
    std::memcpy(four, row + i, 16);
    ++a[four[0] & 0xFFFF];
    ++b[four[0] >> 16 & 0xFFFF];
    ++c[four[0] >> 32 & 0xFFFF];
    ++d[four[0] >> 48];
    ++a[four[1] & 0xFFFF];
    ++b[four[1] >> 16 & 0xFFFF];
    ++c[four[1] >> 32 & 0xFFFF];
    ++d[four[1] >> 48];
  }
  for (; i < n; ++i) ++a[row[i]];
}

class HistogramTables {
 public:
  HistogramTables(int64_t n_queries, int32_t n_values)
      : n_values_(n_values),
        n_slots_(2 * n_values + 1),
        tables_(static_cast<size_t>(n_queries * kTables) * static_cast<size_t>(n_slots_), 0),
        flushed_(static_cast<size_t>(n_queries) * static_cast<size_t>(n_slots_), 0),
        unflushed_(static_cast<size_t>(n_queries), 0) {}

  void add(int64_t query, const uint16_t* row, int64_t n) {
    if ((unflushed_[static_cast<size_t>(query)] += n) > kFlushAfter) flush(query, n);
    count_values(tables_.data() + static_cast<size_t>(query * kTables) * static_cast<size_t>(n_slots_), n_slots_, row, n);
  }

  // Items with this rank value: relevant ones, others, all.
  int64_t relevant(int64_t query, int32_t value) const { return slot(query, value + n_values_); }
  int64_t others(int64_t query, int32_t value) const { return slot(query, value); }
  int64_t items(int64_t query, int32_t value) const { return others(query, value) + relevant(query, value); }

 private:
  static constexpr int64_t kFlushAfter = int64_t{1} << 31;  // items; no 32-bit counter can overflow before

  void flush(int64_t query, int64_t n_next) {
    for (int32_t i = 0; i < n_slots_; ++i) flushed_[static_cast<size_t>(query * n_slots_ + i)] = slot(query, i);
    uint32_t* first = tables_.data() + static_cast<size_t>(query * kTables) * static_cast<size_t>(n_slots_);
    std::fill(first, first + static_cast<int64_t>(kTables) * n_slots_, 0u);
    unflushed_[static_cast<size_t>(query)] = n_next;
  }

  int64_t slot(int64_t query, int32_t index) const {
    const uint32_t* table =
        tables_.data() + static_cast<size_t>(query * kTables) * static_cast<size_t>(n_slots_) + index;
    int64_t sum = flushed_[static_cast<size_t>(query * n_slots_ + index)];
    for (int t = 0; t < kTables; ++t) sum += table[static_cast<int64_t>(t) * n_slots_];
    return sum;
  }

  int32_t n_values_, n_slots_;
  std::vector<uint32_t> tables_;   // [n_queries, kTables, n_slots]
  std::vector<int64_t> flushed_;   // [n_queries, n_slots]
  std::vector<int64_t> unflushed_; // [n_queries] items since the last flush
};

}  // namespace dshc::cpu
