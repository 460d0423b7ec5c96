// The labels of a database, each once, and which of them a query is relevant to.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "partition.h"

namespace dshc::cpu {

class DatabaseLabels {
 public:
  // Empty where the database has more than max_labels different ones.
  DatabaseLabels(const Pairs& pairs, const Relevance& relevance, int64_t max_labels, int n_threads);

  bool found() const { return parts_.n_parts > 0; }
  const Partition& parts() const { return parts_; }

  // Calls use(label) for each label that is relevant to the query, ascending.
  template <class Use>
  void for_each_relevant(int64_t query, Use use) const {
    if (relevance_->query_ids) {
      const auto at = label_of_id_.find(relevance_->query_ids[query]);
      if (at != label_of_id_.end()) use(at->second);
      return;
    }
    const int32_t n_words = relevance_->n_words;
    const uint64_t* query_words = relevance_->query_words + query * n_words;
    for (int64_t label = 0; label < parts_.n_parts; ++label) {
      const uint64_t* words = words_.data() + label * n_words;
      uint64_t shared = 0;
      for (int32_t w = 0; w < n_words; ++w) shared |= words[w] & query_words[w];
      if (shared) use(label);
    }
  }

 private:
  const Relevance* relevance_;
  OwnedPartition owned_;
  Partition parts_;
  std::unordered_map<int32_t, int64_t> label_of_id_;
  std::vector<uint64_t> words_;  // [labels, n_words]
};

}  // namespace dshc::cpu
