// Look-ups in substring tables (core/substring_tables.h): the near values of a query's substring, the items that have them,
// and those of them that are near as a whole. Each step is a cache miss where the database is large, so that all look-ups of a
// group of queries take one step after the other together: offsets are fetched, then lists of items, then codes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../core/types.h"
#include "../call/table_plan.h"
#include "../kernels/filter.h"
#include "../kernels/level.h"

namespace dshc::cpu {

// Numbers of `bits` bits with `from` to `to` of them set, the fewest first.
class Ball {
 public:
  Ball(int32_t bits, int32_t from, int32_t to)
      : end_(uint64_t{1} << bits), ones_(from), to_(to < bits ? to : bits), mask_((uint64_t{1} << from) - 1) {}
  bool done() const { return ones_ > to_; }
  uint32_t next() {
    const uint32_t mask = static_cast<uint32_t>(mask_);
    if (mask_ != 0) {  // Gosper's next larger number with as many bits set (Beeler, Gosper, Schroeppel: HAKMEM, item 175)
      const uint64_t lowest = mask_ & (~mask_ + 1), carried = mask_ + lowest;
      mask_ = (((carried ^ mask_) >> 2) >> __builtin_ctzll(lowest)) | carried;
    }
    if (mask == 0 || mask_ >= end_) mask_ = (uint64_t{1} << ++ones_) - 1;
    return mask;
  }

 private:
  uint64_t end_;
  int32_t ones_, to_;
  uint64_t mask_;
};

// What a query looks up in one table: values that differ in `from` to `to` bits from its own.
struct Lookup {
  int32_t table, from, to;
};

// A query on its way.
struct TableQuery {
  int64_t query = 0;
  const uint8_t* code = nullptr;
  double spent = 0.0;                // ns, by the plan
  double candidates = 0.0;           // items compared so far
  bool given_up = false;
  std::vector<uint32_t> substrings;  // [n_tables]
  std::vector<int32_t> found_to;     // [n_tables] items whose substring is so near have been found; -1: none
  std::vector<Lookup> lookups;       // of the next step
};

// What a search keeps of what its queries find; q is a query's place in the group.
class TableKeep {
 public:
  virtual ~TableKeep() = default;
  // Whether it is worth so many ns more. Asked before the look-ups of a step, and once more before any item is read, when the
  // lengths of the lists are known. False: the query is given up.
  virtual bool affords(const TableQuery& query, int64_t q, double nanoseconds, bool lengths_known) = 0;
  virtual int32_t bound(int64_t q) const = 0;  // rank values below this one are wanted
  virtual void take(int64_t q, const Key* keys, int64_t n) = 0;  // each item once, in any order
};

class TableWalk {
 public:
  TableWalk(const Pairs& pairs, const TablePlan& plan);

  int32_t width(int32_t t) const { return tables_[static_cast<size_t>(t)].width; }
  void start(TableQuery& query, int64_t number) const;
  // Lets all queries do the look-ups of their next step.
  void step(std::vector<TableQuery>& queries, TableKeep& keep);

 private:
  struct Table {
    const uint32_t *offsets, *items;
    int32_t first, width;
  };
  struct Probe {
    const uint32_t* list;  // where its offsets are; then where its items are, and how many
    uint32_t n;
  };
  struct Part {  // the probes of a look-up
    size_t query;
    Lookup lookup;
    size_t begin, end;
  };

  double n_probes(const Lookup& lookup) const;
  void add_probes(const TableQuery& query, int32_t table, Ball& ball);
  int64_t find_lists(int32_t table, size_t begin, size_t end);
  void flush(std::vector<TableQuery>& queries, TableKeep& keep);
  void walk_alone(TableQuery& query, size_t q, TableKeep& keep);
  void read_items(TableQuery& query, size_t q, int32_t table, size_t begin, size_t end, TableKeep& keep);
  int64_t drop_known(const TableQuery& query, int32_t table, Key* keys, int64_t n) const;
  void hand_out(size_t q, const Key* keys, int64_t n, TableKeep& keep);

  const Pairs& pairs_;
  const TablePlan& plan_;
  const int32_t stride_;
  std::vector<Table> tables_;
  std::vector<Probe> probes_;
  std::vector<Part> parts_;
  std::vector<uint32_t> items_;
  std::vector<Key> keys_, members_;
};

}  // namespace dshc::cpu
