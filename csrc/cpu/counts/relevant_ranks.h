// The rank of every relevant item of a query, with ties in the order of the database.
//
// It needs how many items have a smaller rank value, which only the whole histogram tells, plus how many of its own value came
// before it. The walk in index order counts as for a histogram and notes, for each relevant item, its value and the others of
// that value before it: those of earlier runs of 32 items are in the counters, those of its own run are found by one vector
// compare. Nothing branches on relevance. The notes are settled when the histogram is known.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../call/blocks.h"
#include "../call/threads.h"
#include "../kernels/level.h"
#include "label_words.h"
#include "scan.h"
#include "tables.h"

namespace dshc::cpu {

// What is noted of the relevant items of a query, in the order of the database.
struct RelevantNotes {
  // The others of its value before it (48 bits), its rank value (16 bits). Small, so that the notes of a group of queries stay in
  // the second-level cache.
  std::vector<uint64_t> places;
  std::vector<uint16_t> shared;  // labels shared with the query; empty where nobody asks

  void clear() {
    places.clear();
    shared.clear();
  }
};

// Where relevant items stand in the ranking of one query.
class RelevantPlaces {
 public:
  RelevantPlaces(const HistogramTables& tables, int64_t query, int32_t n_values)
      : rank_(static_cast<size_t>(n_values)), hits_(static_cast<size_t>(n_values)) {
    for (int32_t value = 0; value < n_values; ++value) {
      rank_[static_cast<size_t>(value)] = all_items_;
      hits_[static_cast<size_t>(value)] = all_relevant_;
      all_items_ += tables.items(query, value);
      all_relevant_ += tables.relevant(query, value);
    }
  }

  int64_t all_items() const { return all_items_; }
  int64_t all_relevant() const { return all_relevant_; }

  // use(rank, hits, shared) for each note: its rank, how many relevant items are ranked up to there, both counted from 1.
  template <class Use>
  void settle(const RelevantNotes& notes, Use use) {
    const bool graded = !notes.shared.empty();
    for (size_t i = 0; i < notes.places.size(); ++i) {
      const size_t value = static_cast<size_t>(notes.places[i] & 0xFFFF);
      // rank_ itself moves on with the relevant items
      const int64_t rank = ++rank_[value] + static_cast<int64_t>(notes.places[i] >> 16);
      use(rank, ++hits_[value], graded ? int64_t{notes.shared[i]} : 1);
    }
  }

 private:
  std::vector<int64_t> rank_, hits_;  // at each value: of the last item settled, at first of the last item before the tie
  int64_t all_items_ = 0, all_relevant_ = 0;
};

// Room for the relevant items of a row.
struct RelevantRoom {
  std::vector<uint32_t> positions = std::vector<uint32_t>(static_cast<size_t>(block_items(4)));
  std::vector<uint16_t> before = std::vector<uint16_t>(static_cast<size_t>(block_items(4)));
};

// Counts a row into the tables and notes its relevant items, run by run; returns how many these are.
inline int64_t count_and_note(HistogramTables& tables, int64_t query, const uint16_t* row, int64_t n, Marks marks,
                              RelevantRoom& room, RelevantNotes& notes) {
  const int64_t found = level().rank->select_between(row, n, marks.relevant_offset, marks.not_allowed, room.positions.data());
  level().rank->equal_before(row, room.positions.data(), found, marks.relevant_offset, room.before.data());
  const size_t old = notes.places.size();
  notes.places.resize(old + static_cast<size_t>(found));
  uint64_t* note = notes.places.data() + old;
  int64_t r = 0;
  for (int64_t start = 0; start < n; start += kRun) {
    const int64_t end = std::min<int64_t>(start + kRun, n);
    for (; r < found && room.positions[static_cast<size_t>(r)] < end; ++r) {
      const int32_t value = row[room.positions[static_cast<size_t>(r)]] - marks.relevant_offset;
      const int64_t others_before = tables.others(query, value) + room.before[static_cast<size_t>(r)];
      note[r] = static_cast<uint64_t>(others_before) << 16 | static_cast<uint64_t>(value);
    }
    tables.add(query, row + start, end - start);
  }
  return found;
}

// Up to so many items all notes are kept until the walk is over; beyond, a first walk makes the histogram and the second settles
// block by block, so that memory does not grow with the database.
constexpr int64_t kOneWalk = 1 << 20;

// For queries [begin, end): start(query, places) once the histogram is known, use(query, places, notes) for its notes, in the
// order of the database, then finish(query, places). `graded`: the notes say how many labels are shared.
template <class Start, class Use, class Finish>
void walk_relevant(const Pairs& pairs, const Relevance& relevance, int64_t begin, int64_t end, bool graded, Start start,
                   Use use, Finish finish) {
  const int32_t n_values = n_rank_values(pairs);
  const Marks marks = histogram_marks(pairs);
  const bool one_walk = pairs.n_db <= kOneWalk;
  RelevantRoom room;
  std::vector<RelevantPlaces> places;
  HistogramTables tables(end - begin, n_values);
  if (!one_walk) {
    scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db,
         [&](int64_t q, int64_t, int64_t n, const uint16_t* row) { tables.add(q - begin, row, n); });
    for (int64_t q = begin; q < end; ++q) {
      places.emplace_back(tables, q - begin, n_values);
      start(q, places.back());
    }
    tables = HistogramTables(end - begin, n_values);
  }
  std::vector<RelevantNotes> notes(static_cast<size_t>(end - begin));
  scan(pairs, &relevance, marks, begin, end, 0, pairs.n_db, [&](int64_t q, int64_t first, int64_t n, const uint16_t* row) {
    RelevantNotes& mine = notes[static_cast<size_t>(q - begin)];
    const int64_t found = count_and_note(tables, q - begin, row, n, marks, room, mine);
    if (graded) append_shared_labels(relevance, q, first, room.positions.data(), found, mine.shared);
    if (one_walk) return;
    use(q, places[static_cast<size_t>(q - begin)], mine);
    mine.clear();
  });
  for (int64_t q = begin; q < end; ++q) {
    const size_t i = static_cast<size_t>(q - begin);
    if (one_walk) {
      places.emplace_back(tables, q - begin, n_values);
      start(q, places[i]);
      use(q, places[i], notes[i]);
    }
    finish(q, places[i]);
  }
}

// What the walk keeps for a query: sizes the groups that share a block.
inline int64_t walk_state_bytes(const Pairs& pairs) {
  const int64_t a_note = static_cast<int64_t>(sizeof(uint64_t) + sizeof(uint16_t));
  return 16 * kTables * n_rank_values(pairs) + a_note * std::min(pairs.n_db, kOneWalk);
}

// Calls walk(begin, end) for groups of the queries, on the threads of a call.
template <class Walk>
void for_each_group(const Pairs& pairs, const Tasks& tasks, Walk walk) {
  parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
    const int64_t begin = group * tasks.group;
    walk(begin, std::min(begin + tasks.group, pairs.n_query));
  });
}

}  // namespace dshc::cpu
