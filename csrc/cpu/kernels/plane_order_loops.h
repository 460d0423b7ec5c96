// PlaneKernels::walk and sum_precisions for one instruction set; included after plane_counts_loops.h.
#pragma once
#include "plane_counts_loops.h"

namespace dshc::cpu {
namespace {

inline void store_slice(uint64_t* to, Slice slice) { __builtin_memcpy(to, &slice, sizeof slice); }

template <Score score, int kHigh>
void walk_with(const OrderCall& call) {
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
    const uint32_t end = static_cast<uint32_t>((call.first_block + block + 1) * kPlaneItems);
    for (; j < call.n_relevant && call.places[j] < end; ++j) {
      const uint32_t place = call.places[j] % kPlaneItems;
      const size_t slot = call.counts[j] * static_cast<size_t>(kPlaneWords) + place / 64;
      call.slots[j] = static_cast<uint16_t>(slot);
      // The item itself and those of its slot behind it in this block.
      const uint32_t from_here = static_cast<uint32_t>(popcount(call.matches[slot] >> place % 64));
      call.items_before[j] = static_cast<uint32_t>(call.seen[slot]) - from_here;
      call.relevant_before[j] = call.relevant[slot]++;
    }
  }
}

struct Walk {
  const OrderCall& call;
  template <Score score, int kHigh>
  void run() const {
    walk_with<score, kHigh>(call);
  }
};

void walk(const OrderCall& call) { with_digits(call.score, call.n_bytes, Walk{call}); }

// Two passes over a tile of items, because the gathered bases would hold up the divisions: ranks first, then eight
// quotients at a time.
PrecisionSum sum_precisions(const PrecisionCall& call) {
  constexpr int kSums = 8;
  constexpr int64_t kTile = 256;
  typedef double Doubles __attribute__((vector_size(8 * kSums)));
  typedef int32_t Ints __attribute__((vector_size(4 * kSums)));
  const Ints k = static_cast<int32_t>(call.k) - Ints{};  // at most n_db, as the ranks are
  Doubles sums = {};
  Ints minus_taken = {};
  int32_t ranks[kTile], hits[kTile];
  for (int64_t first = 0; first < call.n_relevant; first += kTile) {
    const int64_t n = call.n_relevant - first < kTile ? call.n_relevant - first : kTile;
    const uint16_t* slots = call.slots + first;
    for (int64_t i = 0; i < n; ++i) {
      ranks[i] = static_cast<int32_t>(call.items_before[first + i] + call.items_base[slots[i]] + 1);
      hits[i] = static_cast<int32_t>(call.relevant_before[first + i] + call.relevant_base[slots[i]] + 1);
    }
    for (int64_t i = n; i % kSums != 0; ++i) {
      ranks[i] = INT32_MAX;  // beyond any k
      hits[i] = 0;
    }
    for (int64_t i = 0; i < n; i += kSums) {
      Ints rank, hit;
      __builtin_memcpy(&rank, ranks + i, sizeof rank);
      __builtin_memcpy(&hit, hits + i, sizeof hit);
      const Ints taken = rank <= k;
      minus_taken += taken;
      sums += __builtin_convertvector(hit & taken, Doubles) / __builtin_convertvector(rank, Doubles);
    }
  }
  double sum = 0.0;
  int64_t n_taken = 0;
  for (int i = 0; i < kSums; ++i) {
    sum += sums[i];
    n_taken -= minus_taken[i];
  }
  return {sum, n_taken};
}

}  // namespace
}  // namespace dshc::cpu
