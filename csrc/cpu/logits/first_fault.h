// The first row at which any thread found a fault.
#pragma once
#include <atomic>
#include <cstdint>

#include "../../core/types.h"

namespace dshc::cpu {

class FirstFault {
 public:
  void note(int64_t row) {
    int64_t seen = row_.load(std::memory_order_relaxed);
    while ((seen < 0 || row < seen) && !row_.compare_exchange_weak(seen, row, std::memory_order_relaxed)) {
    }
  }
  bool found() const { return row_.load() >= 0; }
  Status as(Fault fault) const { return {fault, row_.load(), 0}; }

 private:
  std::atomic<int64_t> row_{-1};
};

}  // namespace dshc::cpu
