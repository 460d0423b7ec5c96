// WarpSelect: the k smallest of a stream of (distance, place), kept by one warp in registers.
//
// The method is that of Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", section 4, as faiss has it:
//
// * The warp queue: kRows * 32 pairs, sorted; pair e lies in row e / 32 of lane e % 32. The last k are used, so that the
//   k-th nearest always lies in the same register; the others hold a distance below all.
// * A buffer of kBuffer pairs in each lane, not sorted. A pair goes there if it is nearer than the k-th of the queue.
// * As soon as the buffer of one lane is full, the warp sorts all buffers and merges them into the queue.
//
// Networks are bitonic and ascending throughout: the first step of each merge compares mirrored places, so an absent place
// at the end, which would hold the greatest value, never moves and needs no instruction. So kBuffer is any number.
//
// Equal distances: a pair that is no nearer than the k-th is not taken, and the networks are not stable, so which of
// several equal items are in the answer, and their order, is not defined. The distances are.
#pragma once
#include "../../csrc/cuda/launch.h"
#include "../../csrc/cuda/warp.h"

namespace dshc::peer {

using cuda::kFullMask;
using cuda::kWarp;
using cuda::lane;

constexpr int32_t kNone = 0x7FFFFFFF;  // the distance of a place that holds nothing
constexpr int32_t kUnused = -1;        // of one that will never hold anything

struct Pair {
  int32_t distance;
  uint32_t place;
};

__device__ __forceinline__ Pair from_lane(Pair mine, int lane_mask) {
  return {__shfl_xor_sync(kFullMask, mine.distance, lane_mask), __shfl_xor_sync(kFullMask, mine.place, lane_mask)};
}

// Equal distances: both sides keep what they have, so that no pair is lost.
__device__ __forceinline__ Pair nearer(Pair mine, Pair other) { return other.distance < mine.distance ? other : mine; }
__device__ __forceinline__ Pair farther(Pair mine, Pair other) { return other.distance > mine.distance ? other : mine; }

// Within a row: lanes that differ in `lane_mask`; the lower one, without the bit `top`, keeps the nearer pair.
__device__ __forceinline__ Pair exchange(Pair mine, int lane_mask, int top) {
  const Pair other = from_lane(mine, lane_mask);
  const bool upper = (lane() & top) != 0;
  return (upper ? other.distance > mine.distance : other.distance < mine.distance) ? other : mine;
}

// Sorts each row by itself.
template <int kRows>
__device__ __forceinline__ void sort_rows(Pair (&rows)[kRows]) {
#pragma unroll
  for (int half = 1; half < kWarp; half *= 2) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) rows[r] = exchange(rows[r], 2 * half - 1, half);
#pragma unroll
    for (int step = half / 2; step > 0; step /= 2) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) rows[r] = exchange(rows[r], step, step);
    }
  }
}

// Sorts each run of kRun rows, which is bitonic; kRun is a power of two. A recursion, as the compiler holds an array in
// registers only where every index is a constant before the loops around it are unrolled.
template <int kRun, int kRows>
__device__ __forceinline__ void merge_bitonic(Pair (&rows)[kRows]) {
  if constexpr (kRun > 1) {
    constexpr int kStep = kRun / 2;
#pragma unroll
    for (int r = 0; r + kStep < kRows; ++r) {
      if ((r & kStep) == 0) {
        const Pair low = rows[r], high = rows[r + kStep];
        rows[r] = nearer(low, high);
        rows[r + kStep] = farther(high, low);
      }
    }
    merge_bitonic<kStep>(rows);
  } else {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int step = kWarp / 2; step > 0; step /= 2) rows[r] = exchange(rows[r], step, step);
    }
  }
}

// Sorts all rows, where each run of kHalf rows is sorted.
template <int kHalf, int kRows>
__device__ __forceinline__ void merge_runs(Pair (&rows)[kRows]) {
  if constexpr (kHalf < kRows) {
#pragma unroll
    for (int first = 0; first < kRows; first += 2 * kHalf) {
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const int low = first + i, high = first + 2 * kHalf - 1 - i;
        if (high < kRows) {
          const Pair before = rows[low];
          rows[low] = nearer(before, from_lane(rows[high], kWarp - 1));
          rows[high] = farther(rows[high], from_lane(before, kWarp - 1));
        }
      }
    }
    // The mirrored step leaves two bitonic halves.
    merge_bitonic<kHalf>(rows);
    merge_runs<2 * kHalf>(rows);
  }
}

template <int kRows, int kBuffer>
class WarpSelect {
 public:
  __device__ __forceinline__ explicit WarpSelect(int k) : unused_(kRows * kWarp - k), bound_(kNone), held_(0) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) queue_[r] = {r * kWarp + lane() < unused_ ? kUnused : kNone, 0};
    clear();
  }

  // The distance of the k-th so far; what is not below it is not taken.
  __device__ __forceinline__ int32_t bound() const { return bound_; }
  // Takes nothing from here on.
  __device__ __forceinline__ void close() { bound_ = -1; }

  // All lanes come here together, each with a pair. `finish`, the same in all: nothing comes after it.
  __device__ __forceinline__ void add(int32_t distance, uint32_t place, bool finish = false) {
    // A choice for each place: the compiler would make a plain copy one of memory, and hold the buffer there.
    const bool taken = distance < bound_;
#pragma unroll
    for (int i = kBuffer - 1; i > 0; --i) buffer_[i] = taken ? buffer_[i - 1] : buffer_[i];
    buffer_[0] = taken ? Pair{distance, place} : buffer_[0];
    held_ += taken;
    if (__any_sync(kFullMask, held_ == kBuffer) || finish) merge();
  }

  // Sorts the buffers and merges them into the queue.
  __device__ __forceinline__ void merge() {
    sort_rows(buffer_);
    merge_runs<1>(buffer_);
    constexpr int kTaken = kBuffer < kRows ? kBuffer : kRows;
#pragma unroll
    for (int i = 0; i < kTaken; ++i) {
      queue_[kRows - 1 - i] = nearer(queue_[kRows - 1 - i], from_lane(buffer_[i], kWarp - 1));
    }
    merge_bitonic<kRows>(queue_);
    clear();
    bound_ = __shfl_sync(kFullMask, queue_[kRows - 1].distance, kWarp - 1);
  }

  // write(rank, distance, place) for the first k, each in one of the lanes; after the last merge.
  template <class Write>
  __device__ __forceinline__ void each(Write write) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int rank = r * kWarp + lane() - unused_;
      if (rank >= 0) write(rank, queue_[r].distance, queue_[r].place);
    }
  }

 private:
  __device__ __forceinline__ void clear() {
    held_ = 0;
#pragma unroll
    for (int i = 0; i < kBuffer; ++i) buffer_[i] = {kNone, 0};
  }

  Pair queue_[kRows], buffer_[kBuffer];
  const int unused_;
  int32_t bound_;
  int held_;
};

}  // namespace dshc::peer
