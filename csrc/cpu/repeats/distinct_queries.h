// Queries with equal codes and equal labels have equal histograms and equal average precisions: each is worked out once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../core/types.h"

namespace dshc::cpu {

class DistinctQueries {
 public:
  DistinctQueries(const Pairs& pairs, const Relevance& relevance, int n_threads);

  // What is left to work out: the distinct queries, those of equal codes beside each other. Valid as long as this object.
  const Pairs& pairs() const { return pairs_; }
  const Relevance& relevance() const { return relevance_; }

  bool all_distinct() const { return distinct_of_.empty(); }
  // Which distinct query the query is.
  int64_t distinct(int64_t query) const {
    return all_distinct() ? query : distinct_of_[static_cast<size_t>(query)];
  }

 private:
  void gather(const std::vector<int64_t>& firsts);

  Pairs pairs_;
  Relevance relevance_;
  std::vector<int64_t> distinct_of_;  // [n_query of the call], or empty
  std::vector<uint8_t> codes_;
  std::vector<int32_t> ids_;
  std::vector<uint64_t> words_;
};

}  // namespace dshc::cpu
