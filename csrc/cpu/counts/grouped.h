// Histograms of a database whose codes repeat: each distinct code is compared once and counts as many items as have it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../repeats/database_labels.h"
#include "../repeats/equal_codes.h"

namespace dshc::cpu {

class GroupedDatabase {
 public:
  // For pairs without a mask. Empty (pays() false) where the codes do not repeat enough.
  GroupedDatabase(const Pairs& pairs, const Relevance& relevance, int n_threads);
  bool pays() const { return pays_; }

  // The histograms of one query after another.
  class Counter {
   public:
    explicit Counter(const GroupedDatabase& database);
    void count(int64_t query);
    const int64_t* items() const { return items_.data(); }        // [n_rank_values]
    const int64_t* relevant() const { return relevant_.data(); }  // [n_rank_values]

   private:
    const GroupedDatabase& database_;
    std::vector<uint8_t> query_;  // the padded code that row_ and items_ belong to
    bool has_query_ = false;
    std::vector<uint16_t> row_;
    std::vector<int64_t> items_, relevant_;
  };

 private:
  struct Entry {
    int64_t code, n_items;
  };

  void group_labels();

  const Pairs& pairs_;
  bool pays_ = false;
  EqualCodes equal_;
  DatabaseLabels labels_;
  std::vector<int64_t> label_begins_;  // [labels + 1] where each label's entries begin
  std::vector<Entry> entries_;         // for each label, the codes that its items have
};

}  // namespace dshc::cpu
