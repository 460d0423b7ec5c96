#include "../core/hamming_pairs.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "call/call.h"
#include "call/fresh_memory.h"
#include "call/pairs_plan.h"
#include "call/threads.h"
#include "kernels/level.h"
#include "pairs/compare.h"
#include "pairs/distinct_codes.h"
#include "pairs/equal_parts.h"
#include "pairs/pair_rows.h"

namespace dshc::cpu {

struct PairSearch::Found {
  int64_t* offsets;        // of the items
  DistinctCodes distinct;  // which are compared
  std::vector<int64_t> distinct_offsets;
  PairRows rows;

  Found(const CodeRows& items, int64_t radius, int64_t* item_offsets, int n_threads)
      : offsets(item_offsets), distinct(items, n_threads) {
    const auto limit = static_cast<int32_t>(std::min<int64_t>(radius, 8 * items.n_bytes)) + 1;
    PairRoom room;
    if (radius >= 8 * items.n_bytes) room.expect(0.5 * static_cast<double>(items.n) * static_cast<double>(items.n - 1));
    bool again = true;
    while (again) {
      const CodeRows& codes = distinct.codes();
      if (distinct.found()) distinct_offsets.resize(static_cast<size_t>(codes.n + 1));
      int64_t* const to = distinct.found() ? distinct_offsets.data() : offsets;
      const PairsPlan plan = plan_pairs(codes, radius, level(), n_threads);
      again = false;
      if (plan.blocks.route == Route::empty) {
        rows = rows_of_pairs({}, codes.n, to, n_threads);
      } else if (plan.n_parts == 0 || !find_by_parts(plan, codes, limit, room, to, n_threads, &again)) {
        if (!again) rows = compare_blocks(plan, codes, limit, room, to);
      }
      if (again) distinct.look(n_threads);
    }
    if (distinct.found()) distinct.spread(rows, room, offsets, n_threads);
  }

 private:
  // False: too many items share a part. `again` is set where equal codes may be why, and nobody has looked for them.
  bool find_by_parts(const PairsPlan& plan, const CodeRows& codes, int32_t limit, PairRoom& room, int64_t* to, int n_threads,
                     bool* again) {
    // Pairs per item that share the first part, as all equal codes do. To look for those takes as long as to compare some
    // hundred; where few codes have most of the items, a sample has shown them.
    constexpr double kWorthALook = 1000.0;
    const CodeParts parts(codes, plan.n_parts);
    std::vector<std::vector<Groups>> groups;
    {
      EqualParts equal(codes, parts, n_threads);
      double n_pairs = 0.0;
      for (int part = 0; part < plan.n_parts; ++part) {
        groups.push_back(equal.find(part));
        for (const Groups& list : groups.back()) n_pairs += list.n_pairs;
        *again = part == 0 && !distinct.looked() && n_pairs > kWorthALook * static_cast<double>(codes.n);
        if (*again || n_pairs > plan.most_pairs) return false;
      }
    }
    rows = rows_of_pairs(compare_groups(codes, parts, groups, limit, room, n_threads), codes.n, to, n_threads);
    return true;
  }
};

PairSearch::PairSearch(const CodeRows& codes, int64_t radius, int64_t* offsets, int n_threads) {
  const Call call;
  found_ = new Found(codes, radius, offsets, n_threads);
}

PairSearch::~PairSearch() { delete found_; }

int64_t PairSearch::n_found() const { return found_->offsets[found_->distinct.n_items()]; }

void PairSearch::write(int64_t* indices, int32_t* distances, int n_threads) {
  const Call call;
  Found& found = *found_;
  if (n_found() == 0) return;
  if (found.distinct.found()) return found.distinct.write(found.offsets, indices, distances, n_threads);
  // Not above, where rows are written in the order of their codes: the system would clear a large page for each.
  expect_writes(indices, 8 * n_found());
  expect_writes(distances, 4 * n_found());
  const PairRows& rows = found.rows;
  const int64_t n_groups = divide_up(rows.n, rows.group);
  const double pairs_per_row = static_cast<double>(n_found()) / static_cast<double>(rows.n);
  const int64_t n_tasks = n_groups > 1 ? n_groups : task_count(rows.n, 2.0 + 2.0 * pairs_per_row, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const int64_t begin = n_groups > 1 ? task * rows.group : rows.n * task / n_tasks;
    const int64_t end = n_groups > 1 ? std::min(begin + rows.group, rows.n) : rows.n * (task + 1) / n_tasks;
    const Key* const keys = rows.row(begin) - rows.offsets[begin];
    in_stretches(rows.offsets[begin], rows.offsets[end], 2.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        distances[i] = value_of(keys[i]);
        indices[i] = index_of(keys[i]);
      }
    });
    if (n_groups > 1) found.rows.keys[static_cast<size_t>(task)].reset();
  });
  found.rows.keys.clear();
}

}  // namespace dshc::cpu
