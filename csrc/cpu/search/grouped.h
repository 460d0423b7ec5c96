// Ranking a database whose codes repeat: each distinct code is compared once, and the answer is put together from the
// lists of the items that have it. With codes of DSHC, at most (bits + 1) for each class, a query costs the number of
// distinct codes plus its answer, not n (the closing sentence of the DSHC paper asks for such a search). Where these lie around
// centers (repeats/code_centers.h), the centers are compared first, and of the others those alone that a bound leaves.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../call/blocks.h"
#include "../call/threads.h"
#include "../repeats/equal_codes.h"

namespace dshc::cpu {

class GroupedRanking {
 public:
  // For pairs without a mask; keeps what it needs of the database and points to the queries. Empty (pays() false) where
  // codes do not repeat enough, or where the call is too small to find out.
  GroupedRanking(const Pairs& pairs, int n_threads);
  bool pays() const { return equal_.found(); }

  class Ranker;

  // Calls use(ranker, query) for each query once it is ranked, the ranker being that of the task.
  template <class Use>
  void rank_all(int n_threads, Use use) const;

  // Ranks one query after another, in memory of its own. After the comparisons it looks at what is near alone.
  class Ranker {
   public:
    explicit Ranker(const GroupedRanking& database);

    void rank(int64_t query);
    // Items of rank value below `limit`.
    int64_t n_below(int32_t limit);
    // The k best, ordered by (rank value, index); there must be so many.
    void write(int64_t k, int32_t* values, int64_t* indices);

   private:
    void compare_below(int32_t limit);
    int32_t low_value() const;
    void sort_between(int32_t low, int32_t high);
    void merge(const uint32_t* parts, int64_t n_parts, int64_t n_items, int64_t n_taken, int64_t* indices);

    int64_t size(uint32_t part) const { return parts_.offsets[part + 1] - parts_.offsets[part]; }

    const GroupedRanking& database_;
    const Partition& parts_;
    const PartCodes* centers_;          // null: all distinct codes are compared
    StridedCodes padded_;
    const uint8_t* query_ = nullptr;
    int64_t n_compared_ = 0;                // distinct codes; of centers of rank values below centers_to_
    int32_t centers_to_ = 0;
    std::vector<uint16_t> center_values_;
    std::unique_ptr<uint16_t[]> values_;    // of each distinct code that was compared
    std::unique_ptr<uint32_t[]> compared_;  // which these are; null: all, in order
    std::unique_ptr<uint32_t[]> near_;      // distinct codes of some rank values
    std::unique_ptr<uint32_t[]> by_value_;  // the same in order of rank value
    std::vector<int64_t> value_begins_;     // of these rank values, into by_value_; then the end
    std::vector<uint64_t> marks_;           // a bit an item, from the first that a merge may take; clear between merges
  };

 private:
  Pairs pairs_;
  EqualCodes equal_;
};

template <class Use>
void GroupedRanking::rank_all(int n_threads, Use use) const {
  const int64_t n = pairs_.n_query, n_tasks = n < 4 * n_threads ? n : 4 * n_threads;
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    Ranker ranker(*this);
    for (int64_t q = n * task / n_tasks; q < n * (task + 1) / n_tasks; ++q) {
      ranker.rank(q);
      use(ranker, q);
    }
  });
}

}  // namespace dshc::cpu
