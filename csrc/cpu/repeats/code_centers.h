// The distinct codes of a database whose codes repeat, gathered once for many calls, and the centers that they lie around: a
// trained DSHC model emits a code for each class and those one bit from it.
#pragma once
#include <cstdint>
#include <vector>

#include "../../core/types.h"

namespace dshc::cpu {

class OwnedPartCodes {
 public:
  // Of rows of whole words. A code is put to the first center within kReach bits, or is a center itself; where that makes
  // too many of them there are none.
  OwnedPartCodes(const uint8_t* rows, int32_t row_bytes, const Partition& parts);
  OwnedPartCodes(const OwnedPartCodes&) = delete;
  OwnedPartCodes& operator=(const OwnedPartCodes&) = delete;

  const PartCodes& view() const { return view_; }
  int64_t n_bytes() const;

 private:
  bool find_centers(int64_t n_parts, int32_t row_bytes, std::vector<uint32_t>& center_of);

  std::vector<uint8_t> rows_, near_rows_, centers_;
  std::vector<uint32_t> near_parts_, begins_;
  PartCodes view_;
};

}  // namespace dshc::cpu
