// Blocks of the database as the filters read them.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "../../core/types.h"
#include "../call/blocks.h"
#include "../call/plan.h"
#include "../kernels/level.h"

namespace dshc::cpu {

// Word columns of blocks of the database: an aligned copy, or the database itself where a filter reads codes as they lie, or
// they are single words and too few queries come to make up for the copy. Loads that cross no cache line, always from the same addresses: measured, the
// copy is worth a fifth of the pace with 100 queries.
class BlockColumns {
 public:
  BlockColumns(const Plan& plan, const WalkPlan& walk, const Pairs& pairs);
  int64_t items() const { return block_; }  // in a block
  WordShape shape() const { return shape_; }
  const uint8_t* load(int64_t first, int64_t n);  // valid until the next call
  const uint8_t* arranged(const FilterRow& row, const FilterPass& pass);  // the block loaded last, arranged for the row

 private:
  const Pairs& pairs_;
  const CodeKernels& kernels_;
  WordShape shape_;
  bool in_place_, is_arranged_ = false;  // is_arranged_: nibbles_ are those of the block
  int64_t block_;
  struct alignas(64) Line {
    uint64_t words[8];
  };
  std::unique_ptr<Line[]> columns_, nibbles_;
};

// Queries of a group as padded words, one after the other.
std::vector<uint64_t> query_words(const Pairs& pairs, int64_t begin, int64_t end);

}  // namespace dshc::cpu
