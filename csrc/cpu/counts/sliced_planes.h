// Codes to planes (kernels/plane_counts.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/plane_counts.h"

namespace dshc::cpu {

// Writes word w of each plane of a block: bit b of it is item b of these n, at most 64; items beyond n are zero.
void slice_word(const uint8_t* codes, int64_t n, int32_t n_bytes, int64_t w, uint64_t* planes);

// All ones for each set bit of the code, zero for each other.
void spread_bits(const uint8_t* code, int32_t n_bytes, uint64_t* bits);

// Planes of n_blocks blocks, each at an address that a 64-byte load likes.
class Planes {
 public:
  void resize(int64_t n_blocks, int32_t n_bytes) {
    block_words_ = 8 * n_bytes * kPlaneWords;
    storage_.resize(static_cast<size_t>(n_blocks * block_words_ + kPlaneWords));
    const size_t off = reinterpret_cast<uintptr_t>(storage_.data()) / 8 % kPlaneWords;
    first_ = off == 0 ? 0 : kPlaneWords - static_cast<int64_t>(off);
  }
  uint64_t* block(int64_t number) { return storage_.data() + first_ + number * block_words_; }
  const uint64_t* block(int64_t number) const { return storage_.data() + first_ + number * block_words_; }

 private:
  std::vector<uint64_t> storage_;
  int64_t block_words_ = 0, first_ = 0;
};

}  // namespace dshc::cpu
