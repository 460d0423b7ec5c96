#include "by_index.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "../../common/average_precision.h"
#include "../call/count_plan.h"
#include "../call/threads.h"
#include "scan.h"
#include "sliced_order.h"
#include "tables.h"

namespace dshc::cpu {
namespace {

// Ties by index need each relevant item's rank: how many items have a smaller rank value, which only the whole histogram
// tells, plus how many of its own value came before it. The walk in index order counts as for a histogram and notes, for
// each relevant item, its value and the others of that value before it: those of earlier runs of 32 items are in the
// counters, those of its own run are found by one vector compare. Nothing branches on relevance. The notes are settled when
// the histogram is known.
class RelevantItems {
 public:
  RelevantItems(const HistogramTables& tables, int64_t query, int32_t n_values, int64_t k)
      : k_(k), rank_(static_cast<size_t>(n_values)), hits_(static_cast<size_t>(n_values)) {
    for (int32_t value = 0; value < n_values; ++value) {
      rank_[static_cast<size_t>(value)] = all_items_;
      hits_[static_cast<size_t>(value)] = all_relevant_;
      all_items_ += tables.items(query, value);
      all_relevant_ += tables.relevant(query, value);
    }
  }

  // A relevant item: the others of its value before it (48 bits), its rank value (16 bits). Small, so that the notes of a
  // group of queries stay in the second-level cache.
  using Note = uint64_t;
  static Note note(int64_t others_before, int32_t value) {
    return static_cast<uint64_t>(others_before) << 16 | static_cast<uint64_t>(value);
  }

  void settle(const std::vector<Note>& notes) {
    for (const Note note : notes) {
      const size_t value = static_cast<size_t>(note & 0xFFFF);
      const int64_t rank = ++rank_[value] + static_cast<int64_t>(note >> 16);  // rank_ itself moves on with the relevant items
      const int64_t hits = ++hits_[value];
      const bool inside = rank <= k_;
      sum_ += inside ? static_cast<double>(hits) / static_cast<double>(rank) : 0.0;
      retrieved_ += inside;
    }
  }

  double average_precision(Denominator denominator) const {
    if (all_relevant_ == 0) return std::numeric_limits<double>::quiet_NaN();
    return divide_precisions(sum_, retrieved_, all_relevant_, std::min(k_, all_items_), denominator);
  }

 private:
  int64_t k_;
  std::vector<int64_t> rank_, hits_;  // at each value: of the last item settled, at first of the last item before the tie
  int64_t all_items_ = 0, all_relevant_ = 0, retrieved_ = 0;
  double sum_ = 0.0;
};

// Counts a row into the tables and notes its relevant items, run by run.
void count_and_note(HistogramTables& tables, int64_t query, const uint16_t* row, int64_t n, Marks marks,
                    std::vector<uint32_t>& positions, std::vector<uint16_t>& before,
                    std::vector<RelevantItems::Note>& notes) {
  const int64_t found = level().rank->select_between(row, n, marks.relevant_offset, marks.not_allowed, positions.data());
  level().rank->equal_before(row, positions.data(), found, marks.relevant_offset, before.data());
  const size_t old = notes.size();
  notes.resize(old + static_cast<size_t>(found));
  RelevantItems::Note* note = notes.data() + old;
  int64_t r = 0;
  for (int64_t start = 0; start < n; start += kRun) {
    const int64_t end = std::min<int64_t>(start + kRun, n);
    for (; r < found && positions[static_cast<size_t>(r)] < end; ++r) {
      const int32_t value = row[positions[static_cast<size_t>(r)]] - marks.relevant_offset;
      note[r] = RelevantItems::note(tables.others(query, value) + before[static_cast<size_t>(r)], value);
    }
    tables.add(query, row + start, end - start);
  }
}

// Queries [begin, end) with ties by index. Up to kOnePass items all notes are kept until the walk is over; beyond, a first
// walk makes the histogram and the second settles block by block, so that memory does not grow with the database.
constexpr int64_t kOnePass = 1 << 20;

void walk_in_order(const Pairs& pairs, const Relevance& relevance, int64_t begin, int64_t end, int64_t k,
                   Denominator denominator, double* result) {
  const int32_t n_values = n_rank_values(pairs);
  const Marks marks = histogram_marks(pairs);
  const bool one_pass = pairs.n_db <= kOnePass;
  std::vector<uint32_t> positions(static_cast<size_t>(block_items(4)));
  std::vector<uint16_t> before(positions.size());
  std::vector<RelevantItems> items;
  HistogramTables tables(end - begin, n_values);
  if (!one_pass) {
    scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db,
         [&](int64_t q, int64_t, int64_t n, const uint16_t* row) { tables.add(q - begin, row, n); });
    for (int64_t q = begin; q < end; ++q) items.emplace_back(tables, q - begin, n_values, k);
    tables = HistogramTables(end - begin, n_values);
  }
  std::vector<std::vector<RelevantItems::Note>> notes(static_cast<size_t>(end - begin));
  scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db, [&](int64_t q, int64_t, int64_t n, const uint16_t* row) {
    auto& mine = notes[static_cast<size_t>(q - begin)];
    count_and_note(tables, q - begin, row, n, marks, positions, before, mine);
    if (one_pass) return;
    items[static_cast<size_t>(q - begin)].settle(mine);
    mine.clear();
  });
  for (int64_t q = begin; q < end; ++q) {
    if (one_pass) {
      items.emplace_back(tables, q - begin, n_values, k);
      items.back().settle(notes[static_cast<size_t>(q - begin)]);
    }
    result[q] = items[static_cast<size_t>(q - begin)].average_precision(denominator);
  }
}

}  // namespace

void average_precision_by_index(const Pairs& pairs, const Relevance& relevance, int64_t k, Denominator denominator,
                                double* result, int n_threads) {
  const int64_t notes_bytes = static_cast<int64_t>(sizeof(RelevantItems::Note)) * std::min(pairs.n_db, kOnePass);
  const CountPlan plan =
      plan_ranks(pairs, relevance, 16 * kTables * n_rank_values(pairs) + notes_bytes, level(), n_threads);
  if (plan.sliced) {
    const SlicedOrder order(pairs, relevance, plan.max_labels, n_threads);
    if (order.pays()) return order.average_precision(k, denominator, result, n_threads);
  }
  const Tasks& tasks = plan.tasks;
  parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
    const int64_t begin = group * tasks.group, end = std::min(begin + tasks.group, pairs.n_query);
    walk_in_order(pairs, relevance, begin, end, k, denominator, result);
  });
}

}  // namespace dshc::cpu
