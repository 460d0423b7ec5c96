// The distinct codes of a database whose codes repeat, and which items have each: found once for all ops that make use of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../call/blocks.h"
#include "partition.h"

namespace dshc::cpu {

class EqualCodes {
 public:
  EqualCodes() = default;

  // Takes the parts that the call brings, or looks for them where that seems worth it; empty if the codes do not occur
  // `times` times each, on average.
  static EqualCodes find(const Pairs& pairs, int64_t times, int n_threads);

  bool found() const { return codes_ != nullptr; }
  const Partition& parts() const { return parts_; }
  const uint8_t* codes() const { return codes_; }  // [n_parts, stride], padded with zeros
  int32_t stride() const { return stride_; }

 private:
  OwnedPartition owned_;
  Partition parts_;
  const uint8_t* codes_ = nullptr;
  std::vector<uint8_t> gathered_;  // empty: the call brought them
  int32_t stride_ = 0;
};

}  // namespace dshc::cpu
