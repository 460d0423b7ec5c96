// Tiles of a database of binary codes in shared memory, for warp_select.cu: how they lie, how they come there, and the
// Hamming distance of an item in them.
#pragma once
#include "../../csrc/cuda/launch.h"

namespace dshc::peer {

using cuda::kWarp;

constexpr int kTileVectors = 512;  // of 16 bytes

template <int kWords>
struct Tile {
  static constexpr int kItems = kTileVectors * 4 / kWords;
  // Codes of 32 bytes lie in two planes, or every second bank would rest. The gap keeps the copy free of conflicts too.
  static constexpr int kPlane = kTileVectors / 2 + 4;
  static constexpr int kVectors = kWords == 8 ? 2 * kPlane : kTileVectors;
  // Items of each lane between two votes: enough loads in flight, few enough registers.
  static constexpr int kTogether = kWords <= 2 ? 4 : 8 / kWords;

  static __device__ __forceinline__ int place(int vector) {
    return kWords == 8 ? (vector & 1) * kPlane + vector / 2 : vector;
  }

  static __device__ __forceinline__ int32_t distance(const uint4* tile, int item, const uint32_t (&code)[kWords]) {
    if constexpr (kWords == 1) {
      return __popc(reinterpret_cast<const uint32_t*>(tile)[item] ^ code[0]);
    } else if constexpr (kWords == 2) {
      const uint2 two = reinterpret_cast<const uint2*>(tile)[item];
      return __popc(two.x ^ code[0]) + __popc(two.y ^ code[1]);
    } else {
      int32_t sum = 0;
#pragma unroll
      for (int w = 0; w < kWords; w += 4) {
        const uint4 four = tile[w / 4 * kPlane + item];
        sum += __popc(four.x ^ code[w]) + __popc(four.y ^ code[w + 1]);
        sum += __popc(four.z ^ code[w + 2]) + __popc(four.w ^ code[w + 3]);
      }
      return sum;
    }
  }
};

// Begins a copy of 16 bytes to shared memory; those behind `there` are zeros, and not read. It takes no registers while it
// is on its way, and is complete after copies_arrive().
__device__ __forceinline__ void begin_copy(uint4* to, const uint4* from, int there) {
#ifdef DSHC_SIMT
  std::memset(static_cast<void*>(to), 0, sizeof *to);
  std::memcpy(static_cast<void*>(to), from, static_cast<size_t>(there));
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(there) : "memory");
#endif
}

// Of this thread: a barrier must follow before others read them.
__device__ __forceinline__ void copies_arrive() {
#ifndef DSHC_SIMT
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace dshc::peer
