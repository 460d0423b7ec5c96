// The loops of gpu_limits.cu: memory, registers, matrix instructions. Each writes what the host can check.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace {

constexpr int kChains = 8;

// ---- memory ----

template <int kLoads>
__global__ void read_kernel(const uint4* __restrict__ from, int64_t n, uint32_t* sum) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * kLoads;
  uint32_t mine = 0;
#pragma unroll 1
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x * kLoads + threadIdx.x; first < n; first += step) {
    uint4 loaded[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t at = first + static_cast<int64_t>(i) * blockDim.x;
      loaded[i] = at < n ? from[at] : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) mine += loaded[i].x + loaded[i].y + loaded[i].z + loaded[i].w;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) mine += __shfl_down_sync(0xFFFFFFFFu, mine, lanes);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, mine);
}

template <int kLoads>
__global__ void copy_kernel(const uint4* __restrict__ from, uint4* __restrict__ to, int64_t n) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * kLoads;
#pragma unroll 1
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x * kLoads + threadIdx.x; first < n; first += step) {
    uint4 loaded[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t at = first + static_cast<int64_t>(i) * blockDim.x;
      if (at < n) loaded[i] = from[at];
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t at = first + static_cast<int64_t>(i) * blockDim.x;
      if (at < n) to[at] = loaded[i];
    }
  }
}

// ---- registers ----

// Chain j of thread t starts here; a multiplication spreads the bits.
__host__ __device__ inline uint32_t start_value(uint32_t thread, int chain) {
  return (thread * kChains + static_cast<uint32_t>(chain) + 1u) * 2654435761u;
}

struct Popc {
  static constexpr const char* kWhat = "popc";
  static constexpr const char* kLoop = "popc + add";
  static constexpr int kOutputs = kChains;  // of a thread and round
  __host__ __device__ static void round(uint32_t (&x)[kChains]) {
    for (int j = 0; j < kChains; ++j) {
#ifdef __CUDA_ARCH__
      x[j] += static_cast<uint32_t>(__popc(x[j]));
#else
      x[j] += static_cast<uint32_t>(__builtin_popcount(x[j]));
#endif
    }
  }
};

// The two outputs of a full adder in turn. Neighbouring chains are inputs, or the compiler would merge rounds.
struct Logic {
  static constexpr const char* kWhat = "logic";
  static constexpr const char* kLoop = "lop3, full adders";
  static constexpr int kOutputs = kChains;
  __host__ __device__ static void round(uint32_t (&x)[kChains]) {
    for (int j = 0; j < kChains; ++j) {
      const uint32_t a = x[j], b = x[(j + 1) % kChains], c = x[(j + 3) % kChains];
      x[j] = j % 2 ? a ^ b ^ c : (a & b) | (a & c) | (b & c);
    }
  }
};

template <class Loop>
__global__ void register_kernel(int rounds, uint32_t* results, long long* clocks) {
  uint32_t x[kChains];
#pragma unroll
  for (int j = 0; j < kChains; ++j) x[j] = start_value(threadIdx.x, j);
  __syncthreads();
  const long long begin = clock64();
#pragma unroll 16
  for (int i = 0; i < rounds; ++i) Loop::round(x);
  __syncthreads();
  if (blockIdx.x == 0 && threadIdx.x == 0) *clocks = clock64() - begin;
  uint32_t mixed = 0;
#pragma unroll
  for (int j = 0; j < kChains; ++j) mixed = mixed * 31u + x[j];
  results[static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x] = mixed;
}

template <class Loop>
uint32_t on_host(uint32_t thread, int rounds) {
  uint32_t x[kChains], mixed = 0;
  for (int j = 0; j < kChains; ++j) x[j] = start_value(thread, j);
  for (int i = 0; i < rounds; ++i) Loop::round(x);
  for (int j = 0; j < kChains; ++j) mixed = mixed * 31u + x[j];
  return mixed;
}

// ---- matrix instructions of a warp: 16 x 8 outputs ----

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define DSHC_HAS_MMA 1
#endif

struct Bits128 {
  static constexpr const char* kWhat = "b1";
  static constexpr const char* kLoop = "mma m16n8k128 and.popc";
  static constexpr int kDepth = 128;
  static constexpr uint32_t kOnes = 0xFFFFFFFFu;
  __device__ static void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef DSHC_HAS_MMA
    asm volatile(
        "mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.and.popc "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#endif
  }
};

struct Bits256 {
  static constexpr const char* kWhat = "b1";
  static constexpr const char* kLoop = "mma m16n8k256 and.popc";
  static constexpr int kDepth = 256;
  static constexpr uint32_t kOnes = 0xFFFFFFFFu;
  __device__ static void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef DSHC_HAS_MMA
    asm volatile(
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }
};

struct Int8 {
  static constexpr const char* kWhat = "int8";
  static constexpr const char* kLoop = "mma m16n8k32 s8";
  static constexpr int kDepth = 32;
  static constexpr uint32_t kOnes = 0x01010101u;
  __device__ static void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef DSHC_HAS_MMA
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }
};

// ones: every element is one and each output must be rounds * kDepth; else bits that vary, as those of codes do.
template <class Mma>
__global__ void mma_kernel(int rounds, bool ones, int32_t* results, long long* clocks) {
  int32_t d[kChains][4] = {};
  uint32_t a[4], b[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = ones ? Mma::kOnes : start_value(threadIdx.x, i);
#pragma unroll
  for (int i = 0; i < 2; ++i) b[i] = ones ? Mma::kOnes : start_value(threadIdx.x, 4 + i);
  __syncthreads();
  const long long begin = clock64();
#pragma unroll 4
  for (int i = 0; i < rounds; ++i) {
#pragma unroll
    for (int j = 0; j < kChains; ++j) Mma::multiply(d[j], a, b);
  }
  __syncthreads();
  if (blockIdx.x == 0 && threadIdx.x == 0) *clocks = clock64() - begin;
  int32_t most = d[0][0], least = d[0][0];
#pragma unroll
  for (int j = 0; j < kChains; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) most = max(most, d[j][i]), least = min(least, d[j][i]);
  }
  int32_t* mine = results + 2 * (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  mine[0] = least, mine[1] = most;
}

// ---- the matrix instruction of a warp group: 64 x 128 outputs over 256 bits, A and B in shared memory ----

constexpr int kGroupThreads = 128;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr int kGroupOutputs = 64;                                    // of a thread: 64 * 128 / 128
constexpr int kGroupBytesA = 64 * 32, kGroupBytesB = 128 * 32;       // 256 bits a row
constexpr uint64_t kAcrossDepth = 128 >> 4, kAcrossRows = 256 >> 4;  // core matrices of 8 rows x 16 bytes

__device__ inline uint64_t descriptor(const void* shared) {  // no swizzle; offsets in units of 16 bytes
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  return ((address & 0x3FFFFu) >> 4) | (kAcrossDepth << 16) | (kAcrossRows << 32);
}

// Nothing about the outputs moves past this: the compiler makes the products wait for each other else.
__device__ inline void hold(int32_t (&d)[kGroupOutputs]) {
#pragma unroll
  for (int i = 0; i < kGroupOutputs; ++i) asm volatile("" : "+r"(d[i])::"memory");
}
#endif

__global__ void __launch_bounds__(kGroupThreads)
    group_kernel(int rounds, bool ones, int32_t* results, long long* clocks) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ __align__(128) uint32_t tile[(kGroupBytesA + kGroupBytesB) / 4];
  for (int i = threadIdx.x; i < (kGroupBytesA + kGroupBytesB) / 4; i += kGroupThreads)
    tile[i] = ones ? 0xFFFFFFFFu : start_value(static_cast<uint32_t>(i), 0);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the instruction reads past the threads' stores else
  __syncthreads();
  const uint64_t a = descriptor(tile), b = descriptor(tile + kGroupBytesA / 4);
  int32_t d[kGroupOutputs] = {};
  const long long begin = clock64();
  hold(d);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll 1
  for (int i = 0; i < rounds; ++i) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k256.s32.b1.b1.and.popc "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
        "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,"
        "%52,%53,%54,%55,%56,%57,"
        "%58,%59,%60,%61,%62,%63}, %64, %65, p;\n}"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]),
          "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]),
          "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]),
          "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31]), "+r"(d[32]),
          "+r"(d[33]), "+r"(d[34]), "+r"(d[35]), "+r"(d[36]), "+r"(d[37]), "+r"(d[38]), "+r"(d[39]), "+r"(d[40]),
          "+r"(d[41]), "+r"(d[42]), "+r"(d[43]), "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]), "+r"(d[48]),
          "+r"(d[49]), "+r"(d[50]), "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]), "+r"(d[56]),
          "+r"(d[57]), "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]), "+r"(d[62]), "+r"(d[63])
        : "l"(a), "l"(b));
  }
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  hold(d);
  __syncthreads();
  if (blockIdx.x == 0 && threadIdx.x == 0) *clocks = clock64() - begin;
  int32_t most = d[0], least = d[0];
#pragma unroll
  for (int i = 0; i < kGroupOutputs; ++i) most = max(most, d[i]), least = min(least, d[i]);
  int32_t* mine = results + 2 * (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  mine[0] = least, mine[1] = most;
#endif
}

}  // namespace
