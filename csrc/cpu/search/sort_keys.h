// Keys in ascending order: few by comparisons, many by their digits.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/filter.h"

namespace dshc::cpu {

// Of items below n_db; `spare` is memory to work in.
inline void sort_keys(std::vector<Key>& keys, int64_t n_db, std::vector<Key>& spare) {
  constexpr size_t kFew = 256;
  constexpr int kDigitBits = 11;
  if (keys.size() < kFew) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  const auto pass = [&](int shift) {
    size_t places[(1 << kDigitBits) + 1] = {};
    const auto digit = [&](Key key) { return static_cast<size_t>(key >> shift) & ((1 << kDigitBits) - 1); };
    for (const Key key : keys) ++places[digit(key) + 1];
    for (int d = 0; d < 1 << kDigitBits; ++d) places[d + 1] += places[d];
    spare.resize(keys.size());
    for (const Key key : keys) spare[places[digit(key)]++] = key;
    keys.swap(spare);
  };
  for (int shift = 0; n_db > int64_t{1} << shift; shift += kDigitBits) pass(shift);
  pass(kIndexBits);
  if (std::any_of(keys.begin(), keys.end(), [](Key key) { return value_of(key) >> kDigitBits; })) pass(kIndexBits + kDigitBits);
}

}  // namespace dshc::cpu
