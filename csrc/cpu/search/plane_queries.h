// The queries of one walk on their way through the filter by bit planes (kernels/plane_filter.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../kernels/plane_filter.h"
#include "survivors.h"

namespace dshc::cpu {

// Number q is the q-th query of the group.
class PlaneQueries {
 public:
  PlaneQueries(const PlaneFilterKernels& kernels, const std::vector<uint64_t>& words, int64_t n);

  // Whether a bound can be written as a constant: it is below "no limit".
  bool takes(int32_t bound) const { return bound <= kernels_.bits; }
  int64_t block_items() const { return kernels_.items; }
  // The bound of its survivors, always: they count on getting nothing at or above it.
  void set_bound(int64_t q, int32_t bound);
  void add(int64_t q) { list_.push_back(static_cast<uint16_t>(q)); }
  int64_t size() const { return static_cast<int64_t>(list_.size()); }
  const std::vector<uint16_t>& list() const { return list_; }

  // Lets survivors(q) take what a block has for the queries that were added; allowed(q): bits of the block's items.
  template <class GetSurvivors, class GetAllowed>
  void walk(const PlaneBlock& block, GetSurvivors survivors, GetAllowed allowed) {
    kernels_.tabulate(block, bytes(tables_));
    const int64_t n =
        kernels_.filter(bytes(tables_), bytes(queries_), list_.data(), size(), hits_.get(), masks_[0].words);
    const int64_t mask_words = kernels_.items / 64;
    for (int64_t h = 0; h < n; ++h) {
      const uint8_t* bits = allowed(hits_[static_cast<size_t>(h)]);
      if (!bits) break;
      // Rows of masks lie far from each other: each is a miss, and all of them can be under way together.
      __builtin_prefetch(bits);
      __builtin_prefetch(bits + kernels_.items / 8 - 1);
    }
    for (int64_t h = 0; h < n; ++h) {
      const int64_t q = hits_[static_cast<size_t>(h)];
      Survivors& mine = survivors(q);
      const uint16_t bound = mine.bound();
      if (bound == 0) continue;  // has all it wants, but no constant says "nothing is inside"
      Key* const found = mine.room(kernels_.items);
      const uint64_t* code = words_.data() + q * code_words_;
      mine.take(kernels_.keys(block, masks_[0].words + h * mask_words, allowed(q), code, found));
      if (mine.bound() != bound) set_bound(q, mine.bound());
    }
  }

 private:
  struct alignas(64) Line {
    uint64_t words[8];
  };
  static uint8_t* bytes(const std::unique_ptr<Line[]>& lines) { return reinterpret_cast<uint8_t*>(lines.get()); }
  uint8_t* query(int64_t q) { return bytes(queries_) + q * kernels_.query_bytes; }

  const PlaneFilterKernels& kernels_;
  const std::vector<uint64_t>& words_;
  int64_t code_words_;
  std::vector<uint16_t> list_;
  std::unique_ptr<Line[]> tables_, queries_, masks_;
  std::unique_ptr<uint16_t[]> hits_;
};

}  // namespace dshc::cpu
