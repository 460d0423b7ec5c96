// A query of real-valued outputs as tables that codes are looked up in: exact ones of floats, and ones of bytes that tell which
// items cannot be nearer than a bound.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace dshc::cpu {

// A distance, which is no NaN and not below 0, as bits that ascend with it.
inline uint32_t bits_of(float distance) {
  uint32_t bits;
  std::memcpy(&bits, &distance, sizeof bits);
  return bits;
}
inline float distance_of(uint32_t bits) {
  float distance;
  std::memcpy(&distance, &bits, sizeof distance);
  return distance;
}
constexpr uint32_t kInfinityBits = 0x7F800000, kNoLimit = kInfinityBits + 1;  // every distance is below the second

class WeightedQuery {
 public:
  WeightedQuery(const float* outputs, int32_t n_bits, int32_t n_bytes);

  const float* tables() const { return tables_.data(); }  // [2 * n_bytes, 16]: what a nibble adds to the distance
  const uint8_t* bounds() const { return bounds_.data(); }  // likewise, in whole steps, of the bound that was set

  float distance(const uint8_t* code) const {
    const float* table = tables_.data();
    float sum = 0.0f;
    for (int32_t byte = 0; byte < n_bytes_; ++byte, table += 32) sum += table[code[byte] & 15] + table[16 + (code[byte] >> 4)];
    return sum;
  }

  // Makes bounds() tell items up to the distance `bound`, which is finite and no more than the last one. Returns the limit: an
  // item whose entries in bounds() sum to more, sums of eight bytes cut at 255, is beyond it.
  uint32_t limit_of(float bound);

 private:
  int32_t n_bytes_;
  std::vector<float> tables_;
  std::vector<uint8_t> bounds_;
  float made_for_ = -1.0f;  // the bound that bounds_ are made for
  float scale_ = 0.0f;      // steps for a distance of 1
};

}  // namespace dshc::cpu
