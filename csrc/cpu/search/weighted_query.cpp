#include "weighted_query.h"

#include <algorithm>
#include <cfloat>

namespace dshc::cpu {
namespace {

// As far as the tables of steps reach beyond the bound: one group of eight bytes fills its byte; of several each fills one, and
// most items share a distance among all groups, so that finer steps cut few sums.
double steps_of(int32_t n_bytes) {
  constexpr double kOneGroup = 254, kEachOfSeveral = 152;
  const int32_t n_groups = (n_bytes + 7) / 8;
  return n_groups == 1 ? kOneGroup : kEachOfSeveral * n_groups;
}

}  // namespace

WeightedQuery::WeightedQuery(const float* outputs, int32_t n_bits, int32_t n_bytes)
    : n_bytes_(n_bytes), tables_(static_cast<size_t>(n_bytes) * 32), bounds_(static_cast<size_t>(n_bytes) * 32) {
  for (int32_t nibble = 0; nibble < 2 * n_bytes; ++nibble) {
    float weights[4] = {};
    unsigned signs = 0;
    for (int bit = 0; bit < 4 && 4 * nibble + bit < n_bits; ++bit) {
      const float output = outputs[4 * nibble + bit];
      if (output > 0.0f) signs |= 1u << bit;
      weights[bit] = output > 0.0f ? output : output < 0.0f ? -output : 0.0f;  // a NaN is neither
    }
    const float pairs[2][4] = {{0.0f, weights[0], weights[1], weights[0] + weights[1]},
                               {0.0f, weights[2], weights[3], weights[2] + weights[3]}};
    for (unsigned code = 0; code < 16; ++code) {
      const unsigned differing = code ^ signs;
      tables_[static_cast<size_t>(16 * nibble) + code] = pairs[0][differing & 3] + pairs[1][differing >> 2];
    }
  }
}

uint32_t WeightedQuery::limit_of(float bound) {
  // An item's distance D is a float sum of table entries T, each through at most 513 additions that round by 2^-24 relative:
  // the exact sum of T is at most D (1 + kSlack / 2). An entry in steps is at most T * scale (1 + 2^-24).
  constexpr double kSlack = 2e-4;
  constexpr float kFinerFrom = 0.9f;  // of the bound that the steps were made for: below, they are made anew
  if (made_for_ < 0.0f || bound < kFinerFrom * made_for_) {
    const double scale = steps_of(n_bytes_) * (1 - 2 * kSlack) / std::max(static_cast<double>(bound), 1e-30);
    scale_ = static_cast<float>(std::min(scale, static_cast<double>(FLT_MAX)));
    made_for_ = bound;
    for (size_t i = 0; i < tables_.size(); ++i) {
      const float steps = tables_[i] * scale_;
      bounds_[i] = static_cast<uint8_t>(steps < 255.0f ? steps : 255.0f);
    }
  }
  return static_cast<uint32_t>(static_cast<double>(bound) * scale_ * (1 + kSlack));
}

}  // namespace dshc::cpu
