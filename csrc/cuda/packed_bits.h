// Comparisons packed to bits: bit[row, j] = value[row, j] > 0, or > limit[j].
//
// Where rows end with a whole byte, values and codes are each one run, whatever the width. `pack_run_kernel` reads the run 16
// bytes a lane and load, 8 loads in flight: a warp takes 32 lanes x 8 loads. The comparisons of a load make 2 to 16 bits in each
// lane; the lanes that share a word of codes exchange them by shuffles, 1 to 4 for each word, as one transposes a square matrix,
// so that a warp writes 128 consecutive bytes at a time. `pack_rows_kernel` takes all else (padding bits, values that do not
// begin on 16 bytes): a block takes whole rows, or a piece of a long one, as one run of values whose bits a ballot collects in
// shared memory, and cuts them there to bytes. So loads are coalesced for every dtype and width.
// Moved: each value and each code byte once, which is the least possible. Instructions, sm_90a, for 512 bytes read: 30 to 80,
// beside 125 that could be issued in the time these bytes take. A warp for each row, the simplest way, waits for one load a row.
// Limits: 2^31 blocks, of 32 KiB of values (run) or about 8192 values (rows).
#pragma once
#include <cmath>
#include <type_traits>

#include "vectors.h"
#include "warp.h"

namespace dshc::cuda {

constexpr int kPackThreads = 256, kPackWarps = kPackThreads / kWarp;
constexpr size_t kMostLimitBytes = 48 * 1024;  // of limits in shared memory, without an attribute of the kernel

template <class T> __device__ __forceinline__ bool is_positive(T value) { return value > 0; }
template <> __device__ __forceinline__ bool is_positive(__half value) { return to_real(value) > 0; }
template <> __device__ __forceinline__ bool is_positive(__nv_bfloat16 value) { return to_real(value) > 0; }

// A bit for each value of a vector. Of bytes four at once: bit 7 of a byte is made to say whether it is positive, and 1 + 2^7 +
// 2^14 + 2^21 times that word has the four bits side by side at its top.
template <class T>
__device__ __forceinline__ uint32_t positive_bits(const uint4& vector) {
  uint32_t bits = 0;
  if constexpr (sizeof(T) == 1) {
    const uint32_t words[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const uint32_t some = (words[w] & 0x7F7F7F7Fu) + 0x7F7F7F7Fu;  // bit 7: whether one of the lower seven is set
      const uint32_t positive = (std::is_signed_v<T> ? some & ~words[w] : some | words[w]) & 0x80808080u;
      bits |= positive * 0x204081u >> 28 << 4 * w;
    }
  } else {
    Values<T> values;
    memcpy(&values, &vector, sizeof values);
#pragma unroll
    for (int v = 0; v < kPerVector<T>; ++v) bits |= (is_positive(values.at[v]) ? 1u : 0u) << v;
  }
  return bits;
}

// The largest Real that is not above the limit: a Real is above either or above none.
template <class R>
__device__ __forceinline__ R rounded_down(double limit) {
  if constexpr (std::is_same_v<R, double>) {
    return limit;
  } else {
    const auto nearest = static_cast<float>(limit);
    return static_cast<double>(nearest) > limit ? nextafterf(nearest, -INFINITY) : nearest;
  }
}

// Of a warp: loads, and what they make.
template <class T>
struct PackShape {
  static constexpr int kValues = kPerVector<T>;            // a load
  static constexpr int kGroup = 32 / kValues;              // lanes that exchange bits, and loads that fill a word
  static constexpr int kWords = kGroup >= 8 ? 1 : 8 / kGroup;
  static constexpr int kLoads = kGroup * kWords;           // 8; 16 of 64-bit values
  static constexpr int kBlocks = kLoads > 8 ? 2 : 4;       // on a multiprocessor, at least
  static constexpr int64_t kWarpValues = int64_t{32} * kValues * kLoads;
  static constexpr int64_t kBlockValues = kWarpValues * kPackWarps;
};

// Field u of lane i becomes field i of lane u, of `kGroup` fields of 32 / kGroup bits and as many neighbouring lanes.
template <int kGroup>
__device__ __forceinline__ uint32_t transpose_fields(uint32_t word) {
#pragma unroll
  for (int step = kGroup / 2; step > 0; step /= 2) {
    const int shift = step * (32 / kGroup);
    const uint32_t low = ~0u / ((1u << shift) + 1u);  // the fields that do not have the bit `step`
    const bool upper = lane() & step;
    const uint32_t other = __shfl_xor_sync(kFullMask, upper ? word & low : word >> shift & low, step);
    word = upper ? (word & ~low) | other : (word & low) | other << shift;
  }
  return word;
}

// Values [n_values], a multiple of 8, on 16 bytes; codes [n_values / 8] on 4. With limits [n_bits], n_bits a multiple of 8, in
// shared memory, T is a float. A block takes `tiles` times PackShape::kBlockValues.
template <class T, bool kLimits>
__global__ void __launch_bounds__(kPackThreads, PackShape<T>::kBlocks)
    pack_run_kernel(const T* __restrict__ values, int64_t n_values, int64_t n_bits, const double* __restrict__ limits,
                    int tiles, uint8_t* __restrict__ codes) {
  using Shape = PackShape<T>;
  constexpr int kValues = Shape::kValues, kGroup = Shape::kGroup, kStep = kWarp * kValues;
  Real<T>* held_limits = dynamic_shared<Real<T>>();
  for (int tile = 0; tile < tiles; ++tile) {
    const int64_t first_of_warp = ((static_cast<int64_t>(blockIdx.x) * tiles + tile) * kPackWarps + warp()) * Shape::kWarpValues;
    const int64_t rest = n_values - first_of_warp;
    const int there = static_cast<int>(rest < Shape::kWarpValues ? (rest > 0 ? rest : 0) : Shape::kWarpValues);
    const T* from = values + first_of_warp;
    uint4 held[Shape::kLoads];  // not Values: of the small types these would take a register each
#pragma unroll
    for (int i = 0; i < Shape::kLoads; ++i) {
      const int at = i * kStep + lane() * kValues;
      held[i] = make_uint4(0, 0, 0, 0);
      if (at + kValues <= there) {
        held[i] = __ldcs(reinterpret_cast<const uint4*>(from + at));
      } else if (kValues > 8 && at < there) {  // 8 values are left
        const uint2 half = *reinterpret_cast<const uint2*>(from + at);
        held[i].x = half.x, held[i].y = half.y;
      }
    }
    int column = 0, column_step = 0;
    if constexpr (kLimits) {
      if (tile == 0) {  // the first values are on their way
        for (int64_t j = threadIdx.x; j < n_bits; j += kPackThreads) held_limits[j] = rounded_down<Real<T>>(limits[j]);
        __syncthreads();
      }
      column = static_cast<int>((first_of_warp + lane() * kValues) % n_bits), column_step = kStep % static_cast<int>(n_bits);
    }
#pragma unroll
    for (int w = 0; w < Shape::kWords; ++w) {
      uint32_t word = 0;
#pragma unroll
      for (int u = 0; u < kGroup; ++u) {
        if constexpr (kLimits) {
          Values<T> load;
          memcpy(&load, &held[w * kGroup + u], sizeof load);
          alignas(16) Real<T> limit[kValues];
#pragma unroll
          for (int v = 0; v < kValues; v += kPerVector<Real<T>>) {
            const Values<Real<T>> some = load_vector(held_limits + column + v);
            memcpy(limit + v, &some, sizeof some);
          }
#pragma unroll
          for (int v = 0; v < kValues; ++v) word |= (to_real(load.at[v]) > limit[v] ? 1u : 0u) << (u * kValues + v);
          column += column_step;
          if (column >= n_bits) column -= static_cast<int>(n_bits);
        } else {
          word |= positive_bits<T>(held[w * kGroup + u]) << (u * kValues);
        }
      }
      word = transpose_fields<kGroup>(word);
      // The lane has the word of the load that is its place in its group.
      const int at = 4 * ((w * kGroup + lane() % kGroup) * kValues + lane() / kGroup);
      uint8_t* to = codes + first_of_warp / 8 + at;
      if (8 * at + 32 <= there) {
        *reinterpret_cast<uint32_t*>(to) = word;
      } else {
#pragma unroll 1
        for (int byte = 0; 8 * (at + byte) < there; ++byte) to[byte] = static_cast<uint8_t>(word >> 8 * byte);
      }
    }
  }
}

constexpr int64_t kPackedTile = 8192;  // values of a block, at most
constexpr int kBallots = static_cast<int>(kPackedTile / kWarp / kPackWarps), kBallotsAtOnce = 8;
constexpr size_t kPackedTileBytes = sizeof(uint32_t) * (kPackedTile / 32 + 1);

// Any width, any place. A block takes `rows` rows, or of a longer row one of `pieces` pieces.
template <class T, bool kLimits>
__global__ void __launch_bounds__(kPackThreads)
    pack_rows_kernel(const T* __restrict__ values, int64_t n, int64_t n_bits, const double* __restrict__ limits, int rows,
                     int64_t pieces, uint8_t* __restrict__ codes /* [n, n_bytes] */) {
  uint32_t* bits = dynamic_shared<uint32_t>();  // of the tile; what a byte reads behind the last word is masked
  const int64_t first_row = blockIdx.x / pieces * rows, first_column = blockIdx.x % pieces * kPackedTile;
  const int there = n - first_row < rows ? static_cast<int>(n - first_row) : rows;
  const int width = static_cast<int>(n_bits - first_column < kPackedTile ? n_bits - first_column : kPackedTile);
  const int count = there * width;  // at most kPackedTile
  const T* from = values + first_row * n_bits + first_column;
  const int begin = warp() * kBallots * kWarp;
  uint32_t mine = 0;
  int column = 0, column_step = 0;
  if constexpr (kLimits) column = (begin + lane()) % width, column_step = kWarp % width;
  for (int i = 0; i < kBallots && begin + i * kWarp < count; i += kBallotsAtOnce) {
    T some[kBallotsAtOnce];
#pragma unroll
    for (int u = 0; u < kBallotsAtOnce; ++u) {
      const int at = begin + (i + u) * kWarp + lane();
      some[u] = at < count ? from[at] : T{};
    }
#pragma unroll
    for (int u = 0; u < kBallotsAtOnce; ++u) {
      bool one;
      if constexpr (kLimits) {
        one = static_cast<double>(to_real(some[u])) > limits[first_column + column];
        column += column_step;
        if (column >= width) column -= width;
      } else {
        one = is_positive(some[u]);
      }
      const unsigned ballot = __ballot_sync(kFullMask, one);
      if (lane() == i + u) mine = ballot;
    }
  }
  bits[threadIdx.x] = mine;
  if (threadIdx.x == 0) bits[kPackThreads] = 0;
  __syncthreads();
  const int width_bytes = (width + 7) / 8;
  uint8_t* to = codes + first_row * ((n_bits + 7) / 8) + first_column / 8;
  for (int i = static_cast<int>(threadIdx.x); i < there * width_bytes; i += kPackThreads) {
    const int row = i / width_bytes, j = i % width_bytes * 8, bit = row * width + j;
    const uint64_t both = bits[bit / 32] | static_cast<uint64_t>(bits[bit / 32 + 1]) << 32;
    const unsigned mask = width - j < 8 ? (1u << (width - j)) - 1 : 0xFFu;
    to[i] = static_cast<uint8_t>(static_cast<unsigned>(both >> bit % 32) & mask);
  }
}

static_assert(kBallots == kWarp && kPackedTile / 32 == kPackThreads, "a lane keeps one ballot, a thread one word");

// limits: null for > 0.
template <class T, bool kLimits>
int pack_bits(const T* values, int64_t n, int64_t n_bits, const double* limits, uint8_t* codes, Stream stream) {
  using Shape = PackShape<T>;
  const size_t limit_bytes = kLimits ? sizeof(Real<T>) * static_cast<size_t>(n_bits) : 0;
  if (n_bits % 8 == 0 && reinterpret_cast<uintptr_t>(values) % 16 == 0 && reinterpret_cast<uintptr_t>(codes) % 4 == 0 &&
      limit_bytes <= kMostLimitBytes) {
    // To read the limits takes at most an eighth of what it takes to read values.
    const int64_t tiles = kLimits ? divide_up(64 * n_bits, Shape::kBlockValues * static_cast<int64_t>(sizeof(T))) : 1;
    return launch(pack_run_kernel<T, kLimits>, grid_of(divide_up(n * n_bits, tiles * Shape::kBlockValues)),
                  dim3(kPackThreads), limit_bytes, stream, values, n * n_bits, n_bits, limits, static_cast<int>(tiles), codes);
  }
  const int64_t rows = n_bits < kPackedTile ? kPackedTile / n_bits : 1, pieces = divide_up(n_bits, kPackedTile);
  return launch(pack_rows_kernel<T, kLimits>, grid_of(divide_up(n, rows) * pieces), dim3(kPackThreads), kPackedTileBytes,
                stream, values, n, n_bits, limits, static_cast<int>(rows), pieces, codes);
}

}  // namespace dshc::cuda
