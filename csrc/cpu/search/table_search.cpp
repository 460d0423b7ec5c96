#include "table_search.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "../call/blocks.h"
#include "../call/threads.h"
#include "counted_nearest.h"
#include "sort_keys.h"
#include "table_walk.h"

namespace dshc::cpu {
namespace {

// What the queries of a call have cost so far, against a scan of them all. Once it is more the others are left to the scan.
class Balance {
 public:
  explicit Balance(double scan) : scan_(scan) {}
  bool pays() const {
    return spent_.load(std::memory_order_relaxed) <= static_cast<double>(answered_.load(std::memory_order_relaxed)) * scan_;
  }
  void note(double spent, int64_t answered) {
    double before = spent_.load(std::memory_order_relaxed);
    while (!spent_.compare_exchange_weak(before, before + spent, std::memory_order_relaxed)) {
    }
    answered_.fetch_add(answered, std::memory_order_relaxed);
  }

 private:
  const double scan_;
  std::atomic<double> spent_{0.0};
  std::atomic<int64_t> answered_{0};
};

// Lets groups of queries search, each with a Keep of its task's: keep.run(queries, budget) searches, keep.answer(q) is the
// answer of one that was not given up.
template <class MakeKeep>
std::vector<int64_t> search_groups(const TablePlan& plan, const Pairs& pairs, const TakeAnswer& take, MakeKeep make_keep) {
  std::vector<int64_t> left;
  Balance balance(plan.scan);
  const auto search = [&](int64_t first, int64_t last, int64_t group, double budget) {
    const int64_t n_groups = divide_up(last - first, group);
    std::vector<std::vector<int64_t>> left_of(static_cast<size_t>(n_groups));
    // A task is several groups, which use its memory one after the other.
    const int64_t n_tasks = std::min<int64_t>(n_groups, plan.n_threads == 1 ? 1 : 8 * plan.n_threads);
    parallel_for(n_tasks, plan.n_threads, [&](int64_t task) {
      TableWalk walk(pairs, plan);
      auto keep = make_keep(walk);
      std::vector<TableQuery> queries;
      for (int64_t g = n_groups * task / n_tasks; g < n_groups * (task + 1) / n_tasks; ++g) {
        const int64_t begin = first + g * group, end = std::min(begin + group, last);
        std::vector<int64_t>& mine = left_of[static_cast<size_t>(g)];
        if (!balance.pays()) {
          for (int64_t query = begin; query < end; ++query) mine.push_back(query);
          continue;
        }
        queries.resize(static_cast<size_t>(end - begin));
        for (int64_t query = begin; query < end; ++query) walk.start(queries[static_cast<size_t>(query - begin)], query);
        keep.run(queries, budget);
        double spent = 0.0;
        for (size_t q = 0; q < queries.size(); ++q) {
          spent += queries[q].spent;
          if (queries[q].given_up) {
            mine.push_back(queries[q].query);
          } else {
            take(queries[q].query, keep.answer(q));
          }
        }
        balance.note(spent, end - begin - static_cast<int64_t>(mine.size()));
      }
    });
    for (const std::vector<int64_t>& mine : left_of) left.insert(left.end(), mine.begin(), mine.end());
  };
  search(0, plan.n_scouts, std::min(plan.n_scouts, plan.group), plan.scout_budget);
  search(plan.n_scouts, pairs.n_query, plan.group, plan.budget);
  return left;
}

// Step r looks up the next values of one table, and with it all items within r are found.
class KeepNearest : public TableKeep {
 public:
  KeepNearest(const TablePlan& plan, const Pairs& pairs, int64_t k, TableWalk& walk)
      : plan_(plan), pairs_(pairs), k_(k), walk_(walk), n_tables_(pairs.tables.n_tables) {
    probes_.push_back(0.0);
    candidates_.push_back(0.0);
    for (int32_t r = 0; r <= pairs.tables.n_bits && probes_.back() * plan.probe <= plan.scan; ++r) {
      const int32_t width = walk.width(r % n_tables_);
      const double probes = n_values_with(width, r / n_tables_);
      probes_.push_back(probes_.back() + probes);
      candidates_.push_back(candidates_.back() + probes * static_cast<double>(pairs.tables.n_codes) /
                                                     static_cast<double>(int64_t{1} << width));
    }
  }

  void run(std::vector<TableQuery>& queries, double budget) {
    budget_ = budget;
    nearest_.resize(std::max(nearest_.size(), queries.size()));
    for (size_t q = 0; q < queries.size(); ++q) nearest_[q].start(k_, n_rank_values(pairs_));
    bool any = true;
    for (radius_ = 0; any && radius_ <= pairs_.tables.n_bits; ++radius_) {
      const Lookup lookup{radius_ % n_tables_, radius_ / n_tables_, radius_ / n_tables_};
      any = false;
      for (size_t q = 0; q < queries.size(); ++q) {
        const bool done = nearest_[q].full() && nearest_[q].worst() < radius_;
        queries[q].lookups.clear();
        if (done || queries[q].given_up) continue;
        queries[q].lookups.push_back(lookup);
        any = true;
      }
      if (any) walk_.step(queries, *this);
    }
  }

  const std::vector<Key>& answer(size_t q) { return nearest_[q].finish(); }

  // What has been spent is lost where a query is given up: it may be little, or much where the end is in sight.
  bool affords(const TableQuery& query, int64_t q, double nanoseconds, bool /*lengths_known*/) override {
    const double spent = query.spent + nanoseconds;
    if (spent <= budget_) return true;
    const CountedNearest& nearest = nearest_[static_cast<size_t>(q)];
    return spent <= plan_.scan && nearest.full() && spent + to_finish(query, nearest.worst()) <= plan_.scan;
  }
  int32_t bound(int64_t q) const override { return nearest_[static_cast<size_t>(q)].bound(); }
  void take(int64_t q, const Key* keys, int64_t n) override {
    for (int64_t i = 0; i < n; ++i) nearest_[static_cast<size_t>(q)].add(keys[i]);
  }

 private:
  // From the step after this one to that of radius `last`; lists are as long as those met so far, against the mean.
  double to_finish(const TableQuery& query, int32_t last) const {
    const size_t next = static_cast<size_t>(radius_) + 1, end = static_cast<size_t>(std::min(last, pairs_.tables.n_bits)) + 1;
    if (end <= next) return 0.0;
    if (end >= probes_.size()) return plan_.scan;  // it would take longer than that
    const double crowded = candidates_[next] > 0.0 ? std::max(1.0, query.candidates / candidates_[next]) : 1.0;
    return (probes_[end] - probes_[next]) * plan_.probe +
           (candidates_[end] - candidates_[next]) * crowded * plan_.candidate;
  }

  const TablePlan& plan_;
  const Pairs& pairs_;
  const int64_t k_;
  TableWalk& walk_;
  const int32_t n_tables_;
  int32_t radius_ = 0;
  double budget_ = 0.0;
  std::vector<double> probes_, candidates_;  // [r] of the steps before r, were codes spread evenly; as far as a scan's time
  std::vector<CountedNearest> nearest_;
};

class KeepWithin : public TableKeep {
 public:
  KeepWithin(const TablePlan& plan, const Pairs& pairs, int32_t radius, TableWalk& walk)
      : plan_(plan), pairs_(pairs), walk_(walk), radius_(radius) {
    for (int32_t t = 0; t < pairs.tables.n_tables; ++t) {
      const int32_t to = std::min(table_radius(radius, pairs.tables.n_tables, t), walk.width(t));
      if (to >= 0) lookups_.push_back({t, 0, to});
    }
  }

  void run(std::vector<TableQuery>& queries, double budget) {
    budget_ = budget;
    found_.resize(std::max(found_.size(), queries.size()));
    for (size_t q = 0; q < queries.size(); ++q) {
      found_[q].clear();
      queries[q].lookups = lookups_;
    }
    walk_.step(queries, *this);
  }

  const std::vector<Key>& answer(size_t q) {
    sort_keys(found_[q], pairs_.n_db, spare_);
    return found_[q];
  }

  // Once the lengths of the lists are known, so is all that the answer will cost.
  bool affords(const TableQuery& query, int64_t, double nanoseconds, bool lengths_known) override {
    return query.spent + nanoseconds <= (lengths_known ? plan_.budget : budget_);
  }
  int32_t bound(int64_t) const override { return radius_ + 1; }
  void take(int64_t q, const Key* keys, int64_t n) override {
    std::vector<Key>& found = found_[static_cast<size_t>(q)];
    found.insert(found.end(), keys, keys + n);
  }

 private:
  const TablePlan& plan_;
  const Pairs& pairs_;
  TableWalk& walk_;
  const int32_t radius_;
  double budget_ = 0.0;
  std::vector<Lookup> lookups_;
  std::vector<std::vector<Key>> found_;
  std::vector<Key> spare_;
};

}  // namespace

std::vector<int64_t> table_topk(const TablePlan& plan, const Pairs& pairs, int64_t k, const TakeAnswer& take) {
  return search_groups(plan, pairs, take, [&](TableWalk& walk) { return KeepNearest(plan, pairs, k, walk); });
}

std::vector<int64_t> table_radius(const TablePlan& plan, const Pairs& pairs, int32_t radius, const TakeAnswer& take) {
  return search_groups(plan, pairs, take, [&](TableWalk& walk) { return KeepWithin(plan, pairs, radius, walk); });
}

Pairs with_queries(const Pairs& pairs, const std::vector<int64_t>& queries, std::vector<uint8_t>& codes) {
  const size_t n_bytes = static_cast<size_t>(pairs.n_bytes);
  codes.resize(queries.size() * n_bytes);
  for (size_t q = 0; q < queries.size(); ++q) {
    std::memcpy(codes.data() + q * n_bytes, pairs.queries + queries[q] * pairs.n_bytes, n_bytes);
  }
  Pairs some = pairs;
  some.queries = codes.data();
  some.n_query = static_cast<int64_t>(queries.size());
  return some;
}

}  // namespace dshc::cpu
