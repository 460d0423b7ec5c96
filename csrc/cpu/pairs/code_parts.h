// Parts of codes: where they are cut, and a part as a number.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../../core/hamming_pairs.h"

namespace dshc::cpu {

// Codes cut into parts of neighbouring bits. Of more parts than bits may differ, two codes within the radius have one in
// common (the pigeonhole principle). Which bits make a part is a matter of pace alone: as many codes should differ in one as in
// another, so that bits that hardly vary count little.
class CodeParts {
 public:
  CodeParts(const CodeRows& codes, int n_parts);

  int size() const { return static_cast<int>(begins_.size()) - 1; }
  int32_t begin(int part) const { return begins_[static_cast<size_t>(part)]; }

  // The first part that two codes have in common; size(): none.
  int first_equal(const uint8_t* a, const uint8_t* b) const {
    for (int part = 0; part < size(); ++part) {
      if (equal(a, b, begin(part), begin(part + 1))) return part;
    }
    return size();
  }

 private:
  static bool equal(const uint8_t* a, const uint8_t* b, int32_t begin, int32_t end) {
    int32_t byte = begin / 8;
    const int32_t last = (end - 1) / 8;
    uint32_t mask = 0xFFu << begin % 8;
    for (; byte < last; ++byte, mask = 0xFFu) {
      if ((a[byte] ^ b[byte]) & mask & 0xFFu) return false;
    }
    return ((a[last] ^ b[last]) & mask & 0xFFu >> (7 - (end - 1) % 8)) == 0;
  }

  std::vector<int32_t> begins_;  // [size() + 1], rising, in bits
};

// One part of codes as a number: equal parts have equal ones, and different parts different ones as good as always.
class PartHash {
 public:
  PartHash(const CodeRows& codes, const CodeParts& parts, int part)
      : codes_(codes), first_(parts.begin(part) / 64), last_((parts.begin(part + 1) - 1) / 64) {
    first_mask_ = ~uint64_t{0} << parts.begin(part) % 64;
    last_mask_ = ~uint64_t{0} >> (63 - (parts.begin(part + 1) - 1) % 64);
    if (first_ == last_) first_mask_ &= last_mask_;
    // From here on a word would be read beyond the last code.
    n_whole_ = codes.n - (8 * (last_ + 1) - 1) / codes.stride;
  }

  uint64_t operator()(int64_t i) const {
    const uint8_t* code = codes_.rows + i * codes_.stride;
    if (i >= n_whole_) return at_the_end(code);
    uint64_t hash = folded(word(code, first_) & first_mask_, kFirst);
    if (first_ == last_) return hash;
    for (int32_t w = first_ + 1; w < last_; ++w) hash = folded(hash ^ word(code, w), kNext);
    return folded(hash ^ (word(code, last_) & last_mask_), kNext);
  }

 private:
  // Odd, with as many ones as zeros: digits of the golden ratio and of the square root of 3.
  static constexpr uint64_t kFirst = 0x9E3779B97F4A7C15ull, kNext = 0xBB67AE8584CAA73Bull;

  static uint64_t word(const uint8_t* code, int32_t w) {
    uint64_t value;
    std::memcpy(&value, code + 8 * w, 8);
    return value;
  }

  // Both halves of a product, so that every bit counts above and below.
  static uint64_t folded(uint64_t x, uint64_t factor) {
    const auto product = static_cast<unsigned __int128>(x ^ factor) * (factor << 1 | 1);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  uint64_t at_the_end(const uint8_t* code) const {
    uint64_t words[64] = {};
    const int32_t bytes = codes_.n_bytes < 8 * (last_ + 1) ? codes_.n_bytes : 8 * (last_ + 1);
    std::memcpy(words, code, static_cast<size_t>(bytes));
    uint64_t hash = folded(words[first_] & first_mask_, kFirst);
    if (first_ == last_) return hash;
    for (int32_t w = first_ + 1; w < last_; ++w) hash = folded(hash ^ words[w], kNext);
    return folded(hash ^ (words[last_] & last_mask_), kNext);
  }

  const CodeRows& codes_;
  int32_t first_, last_;
  uint64_t first_mask_, last_mask_;
  int64_t n_whole_;
};

}  // namespace dshc::cpu
