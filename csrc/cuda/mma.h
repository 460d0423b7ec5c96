// Single-bit matrix products of a warp: d[i][j] = c[i][j] + pop-count of (row i of A) AND (column j of B), on tensor cores from
// compute capability 8.0 on (PTX ISA, mma.m16n8k128 and m16n8k256 with .b1 and .and.popc). XOR is emulated on 9.0; AND is not.
//
// Fragments, of lane 4 * g + t: A's words are columns 32 t .. 32 t + 31 of row g, of row g + 8, then (k = 256) the same 128
// columns on; B's those columns of column g; c and d are rows g, g, g + 8, g + 8 of columns 2 t, 2 t + 1, 2 t, 2 t + 1.
// On the CPU (tests) the lanes show each other their words.
//
// multiply_bytes: d[i][j] += sum of A's row i times B's column j, unsigned bytes (mma.m16n8k32). Of lane 4 * g + t: A's words are
// columns 4 t .. 4 t + 3 of row g, of row g + 8, then those 16 columns on; B's the same columns of column g; d as above.
#pragma once
#include "launch.h"

namespace dshc::cuda {

#ifdef DSHC_SIMT

// Words: 1 for 128 columns, 2 for 256. Of A each lane has twice as many.
template <int kWords>
inline void multiply_bits(int (&d)[4], const uint32_t (&a)[2 * kWords], const uint32_t (&b)[kWords], const int (&c)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
  const auto address = [](const uint32_t* words) { return reinterpret_cast<uintptr_t>(words); };
  int sums[4] = {c[0], c[1], c[2], c[3]};
  for (int other = 0; other < 4; ++other) {
    const auto* row = reinterpret_cast<const uint32_t*>(__shfl_sync(kFullMask, address(a), 4 * g + other));
    const auto* left = reinterpret_cast<const uint32_t*>(__shfl_sync(kFullMask, address(b), 4 * (2 * t) + other));
    const auto* right = reinterpret_cast<const uint32_t*>(__shfl_sync(kFullMask, address(b), 4 * (2 * t + 1) + other));
    for (int w = 0; w < kWords; ++w) {
      for (int i = 0; i < 4; ++i) sums[i] += __popc(row[2 * w + i / 2] & (i % 2 ? right : left)[w]);
    }
  }
  __syncwarp();  // every lane has read the others' words
  for (int i = 0; i < 4; ++i) d[i] = sums[i];
}

inline void multiply_bytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
  const auto address = [](const uint32_t* words) { return reinterpret_cast<uintptr_t>(words); };
  for (int other = 0; other < 4; ++other) {
    const auto* row = reinterpret_cast<const uint32_t*>(__shfl_sync(kFullMask, address(a), 4 * g + other));
    const auto* left = reinterpret_cast<const uint32_t*>(__shfl_sync(kFullMask, address(b), 4 * (2 * t) + other));
    const auto* right = reinterpret_cast<const uint32_t*>(__shfl_sync(kFullMask, address(b), 4 * (2 * t + 1) + other));
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        const uint32_t of_a = row[2 * half + i / 2], of_b = (i % 2 ? right : left)[half];
        for (int byte = 0; byte < 32; byte += 8) d[i] += static_cast<int>((of_a >> byte & 255) * (of_b >> byte & 255));
      }
    }
  }
  __syncwarp();  // every lane has read the others' words
}

#else

template <int kWords>
__device__ __forceinline__ void multiply_bits(int (&d)[4], const uint32_t (&a)[2 * kWords], const uint32_t (&b)[kWords],
                                              const int (&c)[4]) {
  static_assert(kWords == 1 || kWords == 2, "128 or 256 columns");
#if __CUDA_ARCH__ >= 800
  if constexpr (kWords == 1) {
    asm volatile("mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%11,%12,%13};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]));
  }
#else
  __trap();  // the host does not choose these kernels there
#endif
}

__device__ __forceinline__ void multiply_bytes(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();  // the host does not choose these kernels there
#endif
}

#endif

}  // namespace dshc::cuda
