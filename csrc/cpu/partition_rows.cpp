#include "../core/partition_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "call/call.h"
#include "call/threads.h"
#include "repeats/partition.h"

namespace dshc::cpu {
namespace {

inline uint64_t load_bytes(const uint8_t* from, int64_t n) {
  uint64_t word = 0;
  std::memcpy(&word, from, static_cast<size_t>(n));
  return word;
}

// The finaliser of MurmurHash3: every bit of the result depends on every bit of x, and different x stay different.
inline uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xFF51AFD7ED558CCDull;
  x ^= x >> 33;
  x *= 0xC4CEB9FE1A85EC53ull;
  return x ^ x >> 33;
}

// A row as one word: itself where it has at most eight bytes (kWidth: of how many; 0: of any number up to eight), so that
// equal words are equal rows.
template <int kWidth>
struct ShortRow {
  static constexpr bool kExact = true;
  const uint8_t* rows;
  int64_t row_bytes;
  uint64_t operator()(int64_t i) const {
    return kWidth ? load_bytes(rows + i * kWidth, kWidth) : load_bytes(rows + i * row_bytes, row_bytes);
  }
  bool same(int64_t, int64_t) const { return true; }
};

// A longer row: a hash of it, and equal words ask for a look at the rows.
struct LongRow {
  static constexpr bool kExact = false;
  const uint8_t* rows;
  int64_t row_bytes;
  uint64_t operator()(int64_t i) const {
    const uint8_t* row = rows + i * row_bytes;
    uint64_t hash = 0;
    int64_t b = 0;
    for (; b + 8 <= row_bytes; b += 8) hash = mix(hash ^ load_bytes(row + b, 8)) + 0x9E3779B97F4A7C15ull;
    return b < row_bytes ? mix(hash ^ load_bytes(row + b, row_bytes - b)) : hash;
  }
  bool same(int64_t i, int64_t j) const {
    return std::memcmp(rows + i * row_bytes, rows + j * row_bytes, static_cast<size_t>(row_bytes)) == 0;
  }
};

constexpr uint32_t kFree = std::numeric_limits<uint32_t>::max();

// Open addressing with linear probing, at most half full. Parts are numbered in the order in which they appear.
template <class Row>
class Parts {
 public:
  explicit Parts(Row row) : row_(row), slots_(size_t{256}) {}

  uint32_t find_or_add(int64_t i) {
    const uint64_t word = row_(i);
    size_t at = mix(word) & (slots_.size() - 1);
    for (;; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.part == kFree) break;
      if (slot.word == word && row_.same(i, first_[slot.part])) return slot.part;
    }
    const uint32_t part = static_cast<uint32_t>(first_.size());
    slots_[at] = {word, part};
    first_.push_back(i);
    if (2 * first_.size() > slots_.size()) grow();
    return part;
  }

  int64_t size() const { return static_cast<int64_t>(first_.size()); }
  int64_t first(int64_t part) const { return first_[static_cast<size_t>(part)]; }

 private:
  struct Slot {
    uint64_t word = 0;
    uint32_t part = kFree;
  };

  void grow() {
    std::vector<Slot> old(4 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.part == kFree) continue;
      size_t at = mix(slot.word) & (slots_.size() - 1);
      while (slots_[at].part != kFree) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = slot;
    }
  }

  Row row_;
  std::vector<Slot> slots_;
  std::vector<int64_t> first_;  // [size] the row that a part was seen in first
};

// Every thread parts a range of the rows by itself; the ranges' parts are matched in order, which numbers them as one
// walk over all rows would; then every range writes its members behind those of the ranges before it.
template <class Row>
int64_t partition(Row row, int64_t n, int64_t max_parts, int64_t* members, int64_t* offsets, int n_threads) {
  constexpr double kRowNanoseconds = 6.0;
  max_parts = std::min<int64_t>(max_parts, kFree - 1);
  const int64_t n_ranges = std::min<int64_t>(task_count(n, kRowNanoseconds, n_threads), std::max(n_threads, 1));
  const auto range_begin = [&](int64_t range) { return n / n_ranges * range + std::min(range, n % n_ranges); };
  struct Range {
    std::vector<uint32_t> part_of_part;  // this range's parts as parts of all rows
    std::vector<int64_t> cursor;         // [parts of all rows] how many members, then where the next one goes
  };
  const std::unique_ptr<uint32_t[]> part_of(new uint32_t[static_cast<size_t>(n)]);
  std::vector<Parts<Row>> parts(static_cast<size_t>(n_ranges), Parts<Row>(row));
  std::vector<Range> ranges(static_cast<size_t>(n_ranges));
  std::atomic<bool> too_many{false};
  parallel_for(n_ranges, n_threads, [&](int64_t r) {
    Parts<Row>& mine = parts[static_cast<size_t>(r)];
    in_stretches(range_begin(r), range_begin(r + 1), 10.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last && mine.size() <= max_parts; ++i) part_of[static_cast<size_t>(i)] = mine.find_or_add(i);
    });
    if (mine.size() > max_parts) too_many = true;
  });
  if (too_many) return Partition::kDistinct;

  Parts<Row>& all = parts[0];
  for (int64_t r = 0; r < n_ranges; ++r) {
    const Parts<Row>& mine = parts[static_cast<size_t>(r)];
    std::vector<uint32_t>& part_of_part = ranges[static_cast<size_t>(r)].part_of_part;
    in_stretches(0, mine.size(), 20.0, [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part) {
        part_of_part.push_back(r == 0 ? static_cast<uint32_t>(part) : all.find_or_add(mine.first(part)));
      }
    });
    if (all.size() > max_parts) return Partition::kDistinct;
  }
  const int64_t n_parts = all.size();
  parallel_for(n_ranges, n_threads, [&](int64_t r) {
    Range& range = ranges[static_cast<size_t>(r)];
    range.cursor.assign(static_cast<size_t>(n_parts), 0);
    in_stretches(range_begin(r), range_begin(r + 1), 5.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        uint32_t& part = part_of[static_cast<size_t>(i)];
        part = range.part_of_part[part];
        ++range.cursor[part];
      }
    });
  });
  int64_t end = 0;
  in_stretches(0, n_parts, 5.0, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      offsets[part] = end;
      for (Range& range : ranges) {
        const int64_t count = range.cursor[static_cast<size_t>(part)];
        range.cursor[static_cast<size_t>(part)] = end;
        end += count;
      }
    }
  });
  offsets[n_parts] = end;
  parallel_for(n_ranges, n_threads, [&](int64_t r) {
    int64_t* cursor = ranges[static_cast<size_t>(r)].cursor.data();
    const uint32_t* part = part_of.get();
    in_stretches(range_begin(r), range_begin(r + 1), 5.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) members[cursor[part[i]]++] = i;
    });
  });
  return n_parts;
}

template <class Use>
auto with_row(const uint8_t* rows, int64_t row_bytes, Use use) {
  if (row_bytes == 8) return use(ShortRow<8>{rows, row_bytes});
  if (row_bytes == 4) return use(ShortRow<4>{rows, row_bytes});
  if (row_bytes < 8) return use(ShortRow<0>{rows, row_bytes});
  return use(LongRow{rows, row_bytes});
}

}  // namespace

int64_t partition_rows(const uint8_t* rows, int64_t n, int64_t row_bytes, int64_t max_parts, int64_t* members,
                       int64_t* offsets, int n_threads) {
  const Call call;
  return with_row(rows, row_bytes,
                  [&](auto row) { return partition(row, n, max_parts, members, offsets, n_threads); });
}

RowSample look_at_rows(const uint8_t* rows, int64_t n, int64_t row_bytes) {
  constexpr int64_t kSample = 1024;
  return with_row(rows, row_bytes, [&](auto row) {
    const int64_t n_sample = std::min(n, kSample);
    std::vector<uint64_t> words(static_cast<size_t>(n_sample));
    for (int64_t s = 0; s < n_sample; ++s) {
      // One row of each of n_sample stretches, at a place that has nothing to do with any period of the rows.
      const int64_t stretch = n / n_sample, begin = stretch * s + std::min(s, n % n_sample);
      const int64_t step = static_cast<int64_t>(mix(static_cast<uint64_t>(s)) % static_cast<uint64_t>(stretch));
      words[static_cast<size_t>(s)] = row(begin + step);
    }
    std::sort(words.begin(), words.end());
    RowSample sample{n_sample, 0, 0, 0};
    for (size_t s = 0, run = 0; s < words.size(); ++s) {
      run = s > 0 && words[s] == words[s - 1] ? run + 1 : 0;
      sample.n_distinct += run == 0;
      sample.n_equal_pairs += static_cast<int64_t>(run);
      const bool last_of_run = s + 1 == words.size() || words[s + 1] != words[s];
      sample.n_single += run == 0 && last_of_run;
    }
    return sample;
  });
}

int64_t RowSample::estimate_distinct(int64_t n) const {
  if (n_rows == n) return n_distinct;
  if (n_equal_pairs == 0) return std::numeric_limits<int64_t>::max();
  return std::max(n_distinct, n_rows * (n_rows - 1) / 2 / n_equal_pairs);
}

}  // namespace dshc::cpu
