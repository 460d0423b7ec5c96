// Histograms from bit-sliced codes. Items with class ids lie in the order of their classes, so that those relevant to a
// query are one range: blocks inside or outside it need no look at relevance, and only those at its ends are counted twice.
// Multi-hot labels are sliced as the codes are: the items that share a label with a query are the OR of a few planes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../repeats/database_labels.h"
#include "sliced_planes.h"

namespace dshc::cpu {

class SlicedDatabase {
 public:
  // For pairs whose plan says so. Empty (pays() false) where the items have more than max_labels different class ids.
  SlicedDatabase(const Pairs& pairs, const Relevance& relevance, int64_t max_labels, int n_threads);
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
      int64_t begin = 0, end = 0;
    };

    void count_chunk(int64_t query, int64_t first_block, int64_t end_block);
    void mark(int64_t query, int64_t first_block, int64_t end_block);
    void mark_range(Range range, int64_t first_item, int64_t end_item);

    const SlicedDatabase& database_;
    int64_t begin_, end_, n_bits_;
    std::vector<uint64_t> bits_;               // [queries, n_bits_] all ones or zero
    std::vector<uint64_t> counts_;             // [queries, 2, n_bits_ + 8]: items, relevant items
    std::vector<Range> ranges_;                // class ids: each query's relevant items
    std::vector<std::vector<int32_t>> query_labels_;  // multi-hot: each query's labels
    std::vector<uint64_t> masks_;              // the relevant items of a chunk of blocks
    std::vector<int64_t> items_, relevant_;
  };

 private:
  void slice(int64_t first_block, int64_t end_block);

  const Pairs& pairs_;
  const Relevance& relevance_;
  int64_t n_values_, n_blocks_;
  bool pays_ = false;
  std::unique_ptr<DatabaseLabels> labels_;  // class ids only
  Planes planes_, label_planes_;
};

}  // namespace dshc::cpu
