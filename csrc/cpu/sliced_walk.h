// SlicedKernels::walk and sum_precisions for one instruction set; included after sliced_loops.h.
#pragma once
#include "sliced_loops.h"

namespace dshc::cpu {
namespace {

inline void store_slice(uint64_t* to, Slice slice) { __builtin_memcpy(to, &slice, sizeof slice); }

template <Score score, int kHigh>
void walk_with(const WalkCall& call) {
  const int32_t n_high = call.n_bytes + 1;
  const int64_t plane_words = 8 * static_cast<int64_t>(call.n_bytes) * kPlaneWords;
  Slice table[kLowValues + kMaxSlicedBytes + 1];
  int64_t j = 0;
  for (int64_t block = 0; block < call.n_blocks; ++block) {
    for (int64_t word = 0; word < kPlaneWords; word += kSliceWords) {
      tabulate<score, kHigh>(call.planes + block * plane_words + word, call.n_bytes, call.query, table,
                             table + kLowValues);
      for (int32_t h = 0; h < n_high; ++h) {
        const Slice high = table[kLowValues + h];
        if (!any(high)) continue;
        for (int v = 0; v < kLowValues; ++v) {
          const Slice match = high & table[v];
          const int64_t at = (kLowValues * h + v) * kPlaneWords + word;
          store_slice(call.matches + at, match);
          store_slice(call.seen + at, load_slice(call.seen + at) + lane_popcounts(match));
        }
      }
    }
    const uint32_t end = static_cast<uint32_t>((call.first_block + block + 1) * kBlockItems);
    for (; j < call.n_asked && call.places[j] < end; ++j) {
      const uint32_t place = call.places[j] % kBlockItems;
      const size_t slot = call.counts[j] * static_cast<size_t>(kPlaneWords) + place / 64;
      call.slots[j] = static_cast<uint16_t>(slot);
      // The item itself and those of its slot behind it in this block.
      const uint32_t from_here = static_cast<uint32_t>(popcount(call.matches[slot] >> place % 64));
      call.items_before[j] = static_cast<uint32_t>(call.seen[slot]) - from_here;
      call.asked_before[j] = call.asked[slot]++;
    }
  }
}

struct Walk {
  const WalkCall& call;
  template <Score score, int kHigh>
  void run() const {
    walk_with<score, kHigh>(call);
  }
};

void walk(const WalkCall& call) { with_digits(call.score, call.n_bytes, Walk{call}); }

PrecisionSum sum_precisions(const PrecisionCall& call) {
  constexpr int kSums = 8;
  typedef double Doubles __attribute__((vector_size(8 * kSums)));
  Doubles sums = {};
  int64_t n_taken = 0;
  for (int64_t j = 0; j < call.n_asked; j += kSums) {
    double hits[kSums] = {}, ranks[kSums];
    for (int i = 0; i < kSums; ++i) ranks[i] = 1.0;
    const int64_t n = call.n_asked - j < kSums ? call.n_asked - j : kSums;
    for (int64_t i = 0; i < n; ++i) {
      const size_t slot = call.slots[j + i];
      const int64_t rank = static_cast<int64_t>(call.items_before[j + i]) + call.items_base[slot] + 1;
      const int64_t hit = static_cast<int64_t>(call.asked_before[j + i]) + call.asked_base[slot] + 1;
      const bool taken = rank <= call.k;
      hits[i] = taken ? static_cast<double>(hit) : 0.0;
      ranks[i] = static_cast<double>(rank);
      n_taken += taken;
    }
    Doubles dividends, divisors;
    __builtin_memcpy(&dividends, hits, sizeof hits);
    __builtin_memcpy(&divisors, ranks, sizeof ranks);
    sums += dividends / divisors;
  }
  double sum = 0.0;
  for (int i = 0; i < kSums; ++i) sum += sums[i];
  return {sum, n_taken};
}

}  // namespace
}  // namespace dshc::cpu
