// Keys in ascending order: few by comparisons, many by their digits.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../call/call.h"
#include "../kernels/filter.h"

namespace dshc::cpu {

// Of items below n_db; `spare` is memory to work in.
inline void sort_keys(std::vector<Key>& keys, int64_t n_db, std::vector<Key>& spare) {
  constexpr size_t kFew = 64;
  constexpr int kMostDigitBits = 11;
  if (keys.size() < kFew) {
    std::sort(keys.begin(), keys.end());
    return;
  }
  spare.resize(keys.size());
  uint32_t places[(1 << kMostDigitBits) + 1];
  const auto pass = [&](int shift, int bits) {
    stop_point(4.0 * static_cast<double>(keys.size()));
    std::fill(places, places + (1 << bits) + 1, 0u);
    const auto digit = [&](Key key) { return static_cast<size_t>(key >> shift) & ((size_t{1} << bits) - 1); };
    for (const Key key : keys) ++places[digit(key) + 1];
    for (int d = 0; d < 1 << bits; ++d) places[d + 1] += places[d];
    for (const Key key : keys) spare[places[digit(key)]++] = key;
    keys.swap(spare);
  };
  // Digits as wide as needed: a pass over few keys is mostly one over its places.
  const auto sort_by = [&](int shift, uint64_t largest) {
    int bits = 0;
    while (largest >> bits) ++bits;
    const int n_passes = (bits + kMostDigitBits - 1) / kMostDigitBits;
    for (int p = 0, done = 0; p < n_passes; ++p) {
      const int width = (bits - done + n_passes - p - 1) / (n_passes - p);
      pass(shift + done, width);
      done += width;
    }
  };
  uint64_t largest = 0;
  for (const Key key : keys) largest = std::max<uint64_t>(largest, value_of(key));
  sort_by(0, static_cast<uint64_t>(n_db - 1));
  sort_by(kIndexBits, largest);
}

}  // namespace dshc::cpu
