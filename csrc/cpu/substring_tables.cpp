#include "../core/substring_tables.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "call/blocks.h"
#include "call/call.h"
#include "call/fresh_memory.h"
#include "call/threads.h"
#include "repeats/substring.h"

namespace dshc::cpu {
namespace {

// The items of a table and their substrings: number j of n_codes.
struct Listed {
  const uint8_t* rows;
  int32_t row_bytes;
  const Partition& equal;
  int32_t first, bits;

  uint32_t item(int64_t j) const { return static_cast<uint32_t>(equal.n_parts > 0 ? first_member(equal, j) : j); }
  uint32_t value(uint32_t item) const {
    return substring(rows + static_cast<int64_t>(item) * row_bytes, row_bytes, first, bits);
  }
};

// By value, stably, in two steps that each write to few places at a time: first by the upper bits of the value, with as many
// ranges of items as threads; then each stretch by the lower bits, in the second-level cache.
void build_table(const Listed& listed, int64_t n, uint64_t* stretches, uint32_t* offsets, uint32_t* items, int n_threads) {
  constexpr int32_t kMostUpperBits = 11;
  const int32_t upper = std::min(listed.bits / 2, kMostUpperBits), lower = listed.bits - upper;
  const int64_t n_stretches = int64_t{1} << upper, n_values = int64_t{1} << lower;
  const int64_t n_ranges = std::min<int64_t>(task_count(n, 6.0, n_threads), std::max(n_threads, 1));
  const auto range_begin = [&](int64_t range) { return n / n_ranges * range + std::min(range, n % n_ranges); };
  std::vector<int64_t> places(static_cast<size_t>(n_ranges * n_stretches), 0);  // [n_ranges, n_stretches]
  parallel_for(n_ranges, n_threads, [&](int64_t range) {
    int64_t* counts = places.data() + range * n_stretches;
    in_stretches(range_begin(range), range_begin(range + 1), 3.0, [&](int64_t first, int64_t last) {
      for (int64_t j = first; j < last; ++j) ++counts[listed.value(listed.item(j)) >> lower];
    });
  });
  std::vector<int64_t> begins(static_cast<size_t>(n_stretches) + 1);
  int64_t end = 0;
  for (int64_t s = 0; s < n_stretches; ++s) {
    begins[static_cast<size_t>(s)] = end;
    for (int64_t range = 0; range < n_ranges; ++range) {
      int64_t& place = places[static_cast<size_t>(range * n_stretches + s)];
      const int64_t count = place;
      place = end;
      end += count;
    }
  }
  begins[static_cast<size_t>(n_stretches)] = end;
  const uint32_t mask = static_cast<uint32_t>(n_values - 1);
  parallel_for(n_ranges, n_threads, [&](int64_t range) {
    int64_t* place = places.data() + range * n_stretches;
    in_stretches(range_begin(range), range_begin(range + 1), 5.0, [&](int64_t first, int64_t last) {
      for (int64_t j = first; j < last; ++j) {
        const uint32_t item = listed.item(j), value = listed.value(item);
        stretches[place[value >> lower]++] = uint64_t{value & mask} << 32 | item;
      }
    });
  });
  parallel_for(n_stretches, n_threads, [&](int64_t s) {
    const int64_t begin = begins[static_cast<size_t>(s)], stop = begins[static_cast<size_t>(s) + 1];
    std::vector<uint32_t> next(static_cast<size_t>(n_values), 0u);
    stop_point(static_cast<double>(n_values));
    in_stretches(begin, stop, 2.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) ++next[stretches[i] >> 32];
    });
    uint32_t at = static_cast<uint32_t>(begin);
    for (int64_t v = 0; v < n_values; ++v) {
      const uint32_t count = next[static_cast<size_t>(v)];
      offsets[s * n_values + v] = next[static_cast<size_t>(v)] = at;
      at += count;
    }
    in_stretches(begin, stop, 4.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) items[next[stretches[i] >> 32]++] = static_cast<uint32_t>(stretches[i]);
    });
  });
  offsets[n_stretches * n_values] = static_cast<uint32_t>(n);
}

bool ascending(const uint32_t* offsets, int64_t n_values, int64_t n) {
  if (offsets[0] != 0 || offsets[n_values] != n) return false;
  bool good = true;
  in_stretches(0, n_values, 0.5, [&](int64_t first, int64_t last) {
    for (int64_t v = first; v < last; ++v) good &= offsets[v] <= offsets[v + 1];
  });
  return good;
}

// Of the values [first, last). Items that ascend and have the value they are listed for are listed once in a table.
bool listed_right(const Listed& listed, int64_t n_db, const uint32_t* offsets, const uint32_t* items, int64_t first,
                  int64_t last) {
  for (int64_t v = first; v < last; ++v) {
    for (int64_t i = offsets[v]; i < offsets[v + 1]; ++i) {
      if (items[i] >= n_db || listed.value(items[i]) != v || (i > offsets[v] && items[i] <= items[i - 1])) return false;
      if (listed.equal.n_parts > 0 && part_of_first(listed.equal, items[i]) == listed.equal.n_parts) return false;
    }
  }
  return true;
}

}  // namespace

int32_t substring_table_count(int32_t n_bits, int64_t n_codes) {
  constexpr int32_t kLeastBits = 8;
  int32_t bits = 0;
  while ((int64_t{1} << (bits + 1)) <= n_codes) ++bits;
  return static_cast<int32_t>(divide_up(n_bits, std::clamp(bits, kLeastBits, kMostTableBits)));
}

void build_substring_tables(const uint8_t* rows, int32_t row_bytes, const Partition& equal, const SubstringTables& tables,
                            uint32_t* offsets, uint32_t* items, int n_threads) {
  const Call call;
  const std::unique_ptr<uint64_t[]> stretches(new uint64_t[static_cast<size_t>(tables.n_codes)]);
  expect_writes(stretches.get(), 8 * tables.n_codes);
  expect_writes(items, 4 * tables.n_codes * tables.n_tables);
  for (int32_t t = 0; t < tables.n_tables; ++t) {
    const Listed listed{rows, row_bytes, equal, tables.first_bit(t), tables.width(t)};
    build_table(listed, tables.n_codes, stretches.get(), offsets, items + t * tables.n_codes, n_threads);
    offsets += (int64_t{1} << listed.bits) + 1;
  }
}

TableFault check_substring_tables(const uint8_t* rows, int32_t row_bytes, int64_t n_db, const Partition& equal,
                                  const SubstringTables& tables, int n_threads) {
  const Call call;
  const uint32_t* offsets = tables.offsets;
  for (int32_t t = 0; t < tables.n_tables; ++t) {
    const Listed listed{rows, row_bytes, equal, tables.first_bit(t), tables.width(t)};
    const uint32_t* items = tables.items + t * tables.n_codes;
    const int64_t n_values = int64_t{1} << listed.bits, n_tasks = std::min<int64_t>(n_values, 1 << 10);
    if (!ascending(offsets, n_values, tables.n_codes)) return TableFault::offsets;
    std::atomic<bool> good{true};
    parallel_for(n_tasks, n_threads, [&](int64_t task) {
      const int64_t first = n_values * task / n_tasks, last = n_values * (task + 1) / n_tasks;
      if (!listed_right(listed, n_db, offsets, items, first, last)) good = false;
    });
    if (!good) return TableFault::items;
    offsets += n_values + 1;
  }
  return TableFault::none;
}

}  // namespace dshc::cpu
