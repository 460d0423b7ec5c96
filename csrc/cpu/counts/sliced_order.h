// Average precision with ties in the order of the database, from bit-sliced codes and class ids.
//
// The database is cut into eight lanes of consecutive items, one for each word of a plane. While the blocks are walked, the
// popcounts of a (count, lane) slot run up to how many of its items came before; the items of the query's class look
// theirs up. Once all is counted, a slot's place in the ranking is known, and with it the rank of each of these items.
#pragma once
#include <cstdint>
#include <vector>

#include "../../core/average_precision.h"
#include "../repeats/database_labels.h"
#include "sliced_planes.h"

namespace dshc::cpu {

class SlicedOrder {
 public:
  // For pairs whose plan says so. Empty (pays() false) where the items have more than max_labels different class ids.
  SlicedOrder(const Pairs& pairs, const Relevance& relevance, int64_t max_labels, int n_threads);
  bool pays() const { return pays_; }

  void average_precision(int64_t k, Denominator denominator, double* result /* [n_query] */, int n_threads) const;

 private:
  class Walker;

  void slice(int n_threads);
  void place_items();
  int64_t item(int64_t block, int64_t word) const { return word * lane_items_ + block * 64; }  // first of 64

  const Pairs& pairs_;
  bool pays_ = false;
  int64_t n_blocks_, lane_items_;
  DatabaseLabels labels_;
  Planes planes_;
  std::vector<uint32_t> places_;  // [n_db] label by label, as the blocks have them: block * kPlaneItems + place
  std::vector<uint8_t> codes_;    // [n_db, stride] in that order
};

}  // namespace dshc::cpu
