#include "distinct_codes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "../call/blocks.h"
#include "../call/call.h"
#include "../call/threads.h"

namespace dshc::cpu {

namespace {
constexpr double kWorthIt = 0.75;  // of the items may have codes of their own
}

DistinctCodes::DistinctCodes(const CodeRows& items, int n_threads) : items_(items), codes_(items) {
  constexpr int64_t kFewest = 64;  // items
  if (items.equal_codes.n_parts > 0) {
    looked_ = true;
    take(items.equal_codes);
  } else if (items.n >= kFewest && rows_repeat(items.rows, items.n, items.stride, 2)) {
    look(n_threads);
  }
}

void DistinctCodes::look(int n_threads) {
  looked_ = true;
  const auto most = static_cast<int64_t>(kWorthIt * static_cast<double>(items_.n));
  owned_ = OwnedPartition::find(items_.rows, items_.n, items_.stride, most, n_threads);
  take(owned_.view());
}

void DistinctCodes::take(Partition parts) {
  if (parts.n_parts < 1 || static_cast<double>(parts.n_parts) > kWorthIt * static_cast<double>(items_.n)) return;
  parts_ = parts;
  const size_t stride = static_cast<size_t>(items_.stride);
  rows_.resize(static_cast<size_t>(parts.n_parts) * stride);
  in_stretches(0, parts.n_parts, 10.0, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      std::memcpy(rows_.data() + static_cast<size_t>(part) * stride,
                  items_.rows + parts.members[parts.offsets[part]] * items_.stride, stride);
    }
  });
  codes_.rows = rows_.data();
  codes_.n = parts.n_parts;
}

template <class Use>
void DistinctCodes::for_each_row(int64_t code, Scratch& scratch, Use use) const {
  // All items of all neighbours, then of each item those behind it: what lies before an item lies before the next one too.
  scratch.items.clear();
  scratch.runs.clear();
  std::vector<size_t> ends;
  const Key *const first = neighbours_.data() + begins_[static_cast<size_t>(code)],
                   *const last = neighbours_.data() + begins_[static_cast<size_t>(code + 1)];
  for (const Key* key = first; key < last;) {
    const uint16_t distance = value_of(*key);
    const size_t begin = scratch.items.size();
    int n_codes = 0;
    for (; key < last && value_of(*key) == distance; ++key, ++n_codes) {
      const int64_t to = parts_.offsets[index_of(*key) + 1];
      in_stretches(parts_.offsets[index_of(*key)], to, 2.0, [&](int64_t from, int64_t end) {
        for (int64_t m = from; m < end; ++m) {
          scratch.items.push_back(make_key(distance, static_cast<uint64_t>(parts_.members[m])));
        }
      });
    }
    if (n_codes > 1) std::sort(scratch.items.begin() + static_cast<std::ptrdiff_t>(begin), scratch.items.end());
    ends.push_back(scratch.items.size());
  }
  size_t begin = 0;
  for (const size_t end : ends) {
    scratch.runs.push_back({scratch.items.data() + begin, scratch.items.data() + end});
    begin = end;
  }
  for (int64_t m = parts_.offsets[code]; m < parts_.offsets[code + 1]; ++m) {
    const int64_t item = parts_.members[m];
    for (Run& run : scratch.runs) {
      while (run.begin < run.end && index_of(*run.begin) <= item) ++run.begin;
    }
    use(item, scratch.runs);
  }
}

template <class Use>
void DistinctCodes::for_each_row(int n_threads, Use use) const {
  constexpr int64_t kTaskCodes = 64;
  parallel_for(divide_up(codes_.n, kTaskCodes), n_threads, [&](int64_t task) {
    Scratch scratch;
    const int64_t end = std::min((task + 1) * kTaskCodes, codes_.n);
    for (int64_t code = task * kTaskCodes; code < end; ++code) for_each_row(code, scratch, use);
  });
}

void DistinctCodes::spread(PairRows& rows, const PairRoom& room, int64_t* offsets, int n_threads) {
  const int64_t n = codes_.n;
  const auto size_of = [&](int64_t code) { return parts_.offsets[code + 1] - parts_.offsets[code]; };
  const auto for_each_pair = [&](auto use) {
    for (int64_t a = 0; a < n; ++a) {
      const int64_t size = rows.offsets[a + 1] - rows.offsets[a];
      if (size == 0) continue;
      stop_point(4.0 * static_cast<double>(size));
      const Key* row = rows.row(a);
      for (int64_t i = 0; i < size; ++i) use(a, index_of(row[i]), value_of(row[i]));
    }
  };
  // Each code goes with itself, and a pair of codes is one for both.
  double n_pairs = 0.0;
  begins_.assign(static_cast<size_t>(n + 1), 0);
  for (int64_t a = 0; a < n; ++a) {
    ++begins_[static_cast<size_t>(a + 1)];
    n_pairs += 0.5 * static_cast<double>(size_of(a)) * static_cast<double>(size_of(a) - 1);
  }
  for_each_pair([&](int64_t a, int64_t b, uint16_t) {
    ++begins_[static_cast<size_t>(a + 1)];
    ++begins_[static_cast<size_t>(b + 1)];
    n_pairs += static_cast<double>(size_of(a)) * static_cast<double>(size_of(b));
  });
  room.expect(n_pairs);
  for (int64_t a = 0; a < n; ++a) begins_[static_cast<size_t>(a + 1)] += begins_[static_cast<size_t>(a)];
  neighbours_.resize(static_cast<size_t>(begins_[static_cast<size_t>(n)]));
  std::vector<int64_t> to(begins_.begin(), begins_.end() - 1);
  const auto put = [&](int64_t of, int64_t other, uint16_t distance) {
    neighbours_[static_cast<size_t>(to[static_cast<size_t>(of)]++)] = make_key(distance, static_cast<uint64_t>(other));
  };
  for (int64_t a = 0; a < n; ++a) put(a, a, 0);
  for_each_pair([&](int64_t a, int64_t b, uint16_t distance) {
    put(a, b, distance);
    put(b, a, distance);
  });
  rows.keys.clear();
  for (int64_t a = 0; a < n; ++a) {
    stop_point(20.0 * static_cast<double>(begins_[static_cast<size_t>(a + 1)] - begins_[static_cast<size_t>(a)]));
    std::sort(neighbours_.begin() + begins_[static_cast<size_t>(a)], neighbours_.begin() + begins_[static_cast<size_t>(a + 1)]);
  }
  offsets[0] = 0;
  for_each_row(n_threads, [&](int64_t item, const std::vector<Run>& runs) {
    int64_t size = 0;
    for (const Run& run : runs) size += run.end - run.begin;
    offsets[item + 1] = size;
  });
  for (int64_t i = 0; i < items_.n; ++i) offsets[i + 1] += offsets[i];
}

void DistinctCodes::write(const int64_t* offsets, int64_t* indices, int32_t* distances, int n_threads) const {
  for_each_row(n_threads, [&](int64_t item, const std::vector<Run>& runs) {
    int64_t at = offsets[item];
    stop_point(2.0 * static_cast<double>(offsets[item + 1] - at));
    for (const Run& run : runs) {
      for (const Key* key = run.begin; key < run.end; ++key, ++at) {
        indices[at] = index_of(*key);
        distances[at] = value_of(*key);
      }
    }
  });
}

}  // namespace dshc::cpu
