// Places that are evenly spread over many.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace dshc::cpu {

// use(i, place) for n of n_all places, rising: one in each of n stretches, moved in it by the multiples of the golden ratio, so
// that no period of the data can hide.
template <class Use>
void for_spread(int64_t n, int64_t n_all, Use use) {
  double fraction = 0.0;
  for (int64_t i = 0; i < n; ++i, fraction = std::fmod(fraction + 0.6180339887498949, 1.0)) {
    const double place = (static_cast<double>(i) + fraction) * static_cast<double>(n_all) / static_cast<double>(n);
    use(i, std::min(static_cast<int64_t>(place), n_all - 1));
  }
}

}  // namespace dshc::cpu
