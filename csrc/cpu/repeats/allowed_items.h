// A mask that all queries share makes the database smaller: the items it allows are copied out once, in their order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../core/types.h"

namespace dshc::cpu {

class AllowedItems {
 public:
  AllowedItems(const Pairs& pairs, const Relevance& relevance);

  // For ranking, which needs the items' numbers, and whose filter takes a mask that lets most items through for nothing.
  explicit AllowedItems(const Pairs& pairs);

  // The call without its mask; unchanged where there is none, or where each query has its own, or where the queries are
  // too few to pay for the copy. Valid as long as this object.
  const Pairs& pairs() const { return pairs_; }
  const Relevance& relevance() const { return relevance_; }
  // Numbers in the whole database of the items copied; empty where none were.
  const std::vector<int64_t>& items() const { return items_; }

 private:
  void copy_codes(const Pairs& pairs);

  Pairs pairs_;
  Relevance relevance_;
  std::vector<int64_t> items_;
  std::vector<uint8_t> codes_;
  std::vector<int32_t> ids_;
  std::vector<uint64_t> words_;
};

}  // namespace dshc::cpu
