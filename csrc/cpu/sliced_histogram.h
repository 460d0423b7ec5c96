// Histograms from bit-sliced codes. The items lie in the order of their labels, so that those relevant to a query are a
// few ranges: blocks inside or outside them need no look at relevance, and only those at their ends are counted twice.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "database_labels.h"
#include "sliced_planes.h"

namespace dshc::cpu {

class SlicedDatabase {
 public:
  // For pairs without a mask. Empty (pays() false) where this machine or these codes and labels are better off without.
  SlicedDatabase(const Pairs& pairs, const Relevance& relevance, int n_threads);
  bool pays() const { return pays_; }

  // Histograms of the queries [begin, end), by rank value.
  class Counter {
   public:
    Counter(const SlicedDatabase& database, int64_t begin, int64_t end);
    void count();
    const int64_t* items(int64_t query) const { return items_.data() + (query - begin_) * database_.n_values_; }
    const int64_t* relevant(int64_t query) const { return relevant_.data() + (query - begin_) * database_.n_values_; }

   private:
    struct Range {
      int64_t begin, end;
    };

    void count_chunk(int64_t query, int64_t first_block, int64_t end_block);
    void mark(const std::vector<Range>& ranges, int64_t first_item, int64_t end_item);

    const SlicedDatabase& database_;
    int64_t begin_, end_, n_bits_;
    std::vector<uint64_t> bits_;               // [queries, n_bits_] all ones or zero
    std::vector<uint64_t> counts_;             // [queries, 2, n_bits_ + 8]: items, relevant items
    std::vector<std::vector<Range>> ranges_;   // of each query's relevant items
    std::vector<uint64_t> masks_;              // of a chunk of blocks
    std::vector<int64_t> items_, relevant_;
  };

 private:
  const Pairs& pairs_;
  int64_t n_values_, n_blocks_;
  bool pays_ = false;
  std::unique_ptr<DatabaseLabels> labels_;
  Planes planes_;
};

}  // namespace dshc::cpu
