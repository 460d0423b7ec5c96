// A query's answer where so much of the database is wanted that nothing is worth filtering: all rank values are computed and
// counted, and each item is written to its place, once. A counting sort, stable, and so ordered by (rank value, index).
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "../call/blocks.h"
#include "../call/plan.h"

namespace dshc::cpu {

// Of one task; the memory of a query serves the next.
class WholeRanking {
 public:
  WholeRanking(const Plan& plan, const Pairs& pairs);

  // The k best items: their rank values and indices; k is at most the number of items.
  void write(int64_t query, int64_t k, int32_t* values, int64_t* indices);

 private:
  void count(int64_t query);

  const Plan& plan_;
  const Pairs& pairs_;
  int32_t n_values_;
  std::unique_ptr<uint16_t[]> row_;  // [n_db] rank values
  StridedCodes query_code_, codes_;
  std::vector<uint32_t> tables_;     // [kTables, n_values] how many there are of each
  std::vector<int64_t> places_;      // [n_values] where the next item of a value goes
};

}  // namespace dshc::cpu
