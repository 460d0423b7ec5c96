// What the two kernels on the tensor cores share (collect_mma.cu, collect_mma_long.cu): a look at the signs of many outputs, the
// queue of what enters, and counting.
//
// Outputs of a lane are numbered in fours, one four for each matrix: those of row g in columns 2 t and 2 t + 1, then of row g + 8.
// A matrix is 16 items times 8 queries; which of them it is, `Place` says: place.column(four) is its first query in the block's
// group, place.item(four) its first item in the piece.
#pragma once
#include "collect_walk.h"
#include "mma.h"

namespace dshc::cuda {

constexpr int kRows = 16, kColumns = 8;
constexpr int kWarps = kCollectThreads / kWarp;
constexpr int kQueue = 256;    // entries of a warp's queue
constexpr int kItemBits = 23;  // of an entry, the item's place in its piece; the query's in its group takes 8

// What becomes of items that enter: they are kept, or counted for their query.
enum class Entering { kept, counted };

// What accumulators begin at, so that they end negative where an item enters (of overlap: not negative): hamming counts up to
// the bound, overlap from above it.
template <bool kOverlap>
__device__ __forceinline__ int first_sum(int bound, int n_bits) {
  return kOverlap ? bound - n_bits - 1 : -bound;
}

// OR (of overlap: AND) of all outputs, three at a time and not one after the other.
template <bool kOverlap, int kCount>
__device__ __forceinline__ int join(const int (&of)[kCount]) {
  if constexpr (kCount == 1) {
    return of[0];
  } else {
    constexpr int kNext = (kCount + 2) / 3;
    int joined[kNext];
#pragma unroll
    for (int i = 0; i < kNext; ++i) {
      joined[i] = of[3 * i];
      if (3 * i + 1 < kCount) joined[i] = kOverlap ? joined[i] & of[3 * i + 1] : joined[i] | of[3 * i + 1];
      if (3 * i + 2 < kCount) joined[i] = kOverlap ? joined[i] & of[3 * i + 2] : joined[i] | of[3 * i + 2];
    }
    return join<kOverlap>(joined);
  }
}

// Keeps what a warp has queued. `begin`: the piece's first item.
static __device__ __noinline__ void keep_queued(const Pairs& pairs, const CollectPlan& plan, const Collected& to,
                                         const WalkShared& shared, int group, int64_t begin, const uint32_t* queue, int n) {
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes) && has_whole_words(pairs.queries, pairs.n_bytes);
  const bool overlap = pairs.score == Score::overlap;
  __syncwarp();  // the queue is written
  for (int at = lane(); at < n; at += kWarp) {
    const int q = static_cast<int>(queue[at] >> kItemBits);
    const int64_t item = begin + (queue[at] & ((1u << kItemBits) - 1));
    if (item >= pairs.n_db) continue;
    const uint8_t* of_item = pairs.database + item * pairs.n_bytes;
    const uint8_t* of_query = pairs.queries + (int64_t{group} * plan.group + q) * pairs.n_bytes;
    int count = 0;
    for (int w = 0; 4 * w < pairs.n_bytes; ++w) {
      const uint32_t a = load_word(of_item, w, pairs.n_bytes, whole), b = load_word(of_query, w, pairs.n_bytes, whole);
      count += __popc(overlap ? a & b : a ^ b);
    }
    keep(pairs, plan, to, shared, group, q, overlap ? 8 * pairs.n_bytes - count : count, item);
  }
  __syncwarp();  // and read
}

// Queues the items of outputs that enter, as many rounds as a lane has of them; the queue is kept when it is full.
template <bool kOverlap, int kOutputs, class Place, class Keep>
__device__ __forceinline__ void queue_entering(const int (&sums)[kOutputs], Place place, uint32_t* queue, int* n_queued, Keep keep) {
  static_assert(kOutputs <= 32, "a bit for each output of a lane");
  const int g = lane() / 4, t = lane() % 4;
  unsigned enters = 0;
#pragma unroll
  for (int i = kOutputs - 1; i >= 0; --i) enters = enters << 1 | static_cast<unsigned>(sums[i]) >> 31;
  if (kOverlap) enters = ~enters & (~0u >> (32 - kOutputs));
  for (;;) {
    const unsigned lanes = __ballot_sync(kFullMask, enters != 0);
    if (lanes == 0) return;
    if (*n_queued > kQueue - kWarp) {
      keep(*n_queued);
      *n_queued = 0;
    }
    if (enters != 0) {
      const int which = __ffs(static_cast<int>(enters)) - 1;
      enters &= enters - 1;
      const auto query = static_cast<uint32_t>(place.column(which / 4) + 2 * t + which % 2);
      queue[*n_queued + __popc(lanes & lanes_below())] =
          query << kItemBits | static_cast<uint32_t>(place.item(which / 4) + which % 4 / 2 * 8 + g);
    }
    *n_queued += __popc(lanes);
  }
}

// Adds the items that enter, of `there` in the piece, to counts [group]; kFours matrices of the same queries, from four
// `first` on.
template <bool kOverlap, int kFours, int kOutputs, class Place>
__device__ __forceinline__ void count_entering(const int (&sums)[kOutputs], int first, Place place, int64_t there,
                                               unsigned* counts) {
  const int g = lane() / 4, t = lane() % 4;
  unsigned both = 0;  // of the left column, and 2^16 times of the right one
#pragma unroll
  for (int i = 0; i < 4 * kFours; ++i) {
    const int four = first + i / 4;
    const bool enters = (sums[4 * four + i % 4] < 0) != kOverlap && place.item(four) + i % 4 / 2 * 8 + g < there;
    both += (enters ? 1u : 0u) << (i % 2 * 16);
  }
#pragma unroll
  for (int over = 4; over < kWarp; over *= 2) both += __shfl_xor_sync(kFullMask, both, over);
  if (g != 0) return;
  const int column = place.column(first) + 2 * t;
  if ((both & 0xFFFF) != 0) atomicAdd(counts + column, both & 0xFFFF);
  if (both >> 16 != 0) atomicAdd(counts + column + 1, both >> 16);
}

// Adds a group's counts of a piece to the result, after a barrier.
__device__ __forceinline__ void add_counts(const CollectPlan& plan, int group, const unsigned* counts,
                                           unsigned long long* found /* [n_query] */) {
  __syncthreads();  // all of the piece is counted
  for (int q = static_cast<int>(threadIdx.x); q < plan.group; q += kCollectThreads) {
    const int64_t query = int64_t{group} * plan.group + q;
    if (query < plan.n_query && counts[q] != 0) atomicAdd(found + query, static_cast<unsigned long long>(counts[q]));
  }
}

// Calls load(group) and scan(group, begin, end): pieces drawn one after the other while bounds fall, or shared out evenly.
template <Entering kEntering, class Load, class Scan>
__device__ __forceinline__ void walk_pieces(const CollectPlan& plan, const Collected& to, const WalkShared& shared,
                                            Load load, Scan scan) {
  if constexpr (kEntering == Entering::kept) {
    walk_tickets(plan, to, shared, load, scan);
  } else {
    walk_evenly(plan, shared, load, scan);
  }
}

// Codes longer than 32 bytes.
int launch_mma_long(const Pairs& pairs, const CollectPlan& plan, const Collected& to, unsigned long long* found, Stream stream);

}  // namespace dshc::cuda
