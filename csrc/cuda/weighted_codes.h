// bit b of a row's code = sign of sum over its k largest logits' sub-classes of exp(logit_i - largest logit) (+1 or -1 as bit b
// of code i); a tied bit is that of the first sub-class.
//
// The sum is a matrix product, weights [n, n_subclasses] times bits [n_subclasses, n_bits], and is exact: a weight becomes an
// integer, times the power of two that takes the sum of all weights to 2^30 .. 2^31 (float64: 2^61 .. 2^62), and its 4 (8) bytes
// are factors on the tensor cores, which add bytes times bits in 32-bit integers. So the order of the sum is of no account,
// equal weights of opposite signs cancel to 0, and a row is cut among warps at will. Rounding to integers moves the sum by at
// most n_subclasses 2^-31 (2^-62) of the weights that are in it, where a sum in floating point is off by n_subclasses 2^-24
// (2^-53). A byte that is 0 in all weights at hand is passed over, which changes nothing: most high bytes and, of a row that is
// sure of its class, most weights are.
//
// Thread map: a block has 16 rows, its 8 warps columns in turn, 32 a step; lane 4 g + t has 8 columns from 8 t on of rows g and
// g + 8, which is how the products want them. The step's codes, one a lane, go through shared memory to those that want them.
// The next step's logits and codes are on the way during a step. A turn is 8 bytes of the codes (float64: 4); longer codes take
// several turns, or blocks where rows are few.
// First pass: largest logit, its lowest index, the sum of weights. k < n_subclasses: kth_key.h finds the smallest logit that
// belongs, and ties at it are cut by index. Then the products.
//
// Moved: each logit twice (16 long rows a block stay in no cache between the passes), one exponential each time; k <
// n_subclasses: as many times more as a key has digits. Products: n n_subclasses n_bits multiply-adds for each of 4 bytes, 63 G
// operations for 4,096 x 30,100 x 64 bits, less than the time of the reading. Adding on the ALUs would be 8 G additions of
// three instructions, several times the reading. One reading would need the largest logit before it is known, or sums that are
// scaled again, which do not cancel. NaN weighs nothing. Limits: 2^23 sub-classes (255 of each in a 32-bit sum).
#pragma once
#include "fixed_weights.h"
#include "kth_key.h"
#include "mma.h"
#include "weighted_operands.h"

namespace dshc::cuda {

constexpr int kWeighedRows = 16, kWeighedWarps = 8, kWeighedStep = 32;
constexpr int kCutByWarps = 4096;  // columns up to which warps cut rows to their k largest, each its own
constexpr int64_t kMostWeighed = int64_t{1} << 23;

// What the products need to know of a row. Only values above `kth` count, and those equal to it up to column `last_equal`.
template <class R>
struct WeighedRow {
  R top, scale, kth;
  int first, last_equal;
};

template <class R>
struct WeighedShared {
  using F = typename Fixed<R>::type;
  static constexpr int kBits = 8 * Fixed<R>::kTiles;
  using Part = CodePart<Fixed<R>::kTiles>;
  Part* codes;             // [kWeighedWarps, kWeighedStep]
  F* sums;                 // [kWeighedRows, kBits]: of the weights whose bit is set
  F* totals;               // [kWeighedRows]: of all weights
  WeighedRow<R>* rows;     // [kWeighedRows]
  Leader<R>* leaders;      // [kWeighedRows, kWeighedWarps]
  uint32_t* digit_counts;  // [kWeighedWarps, kDigits]
  int32_t* warp_counts;    // [kWeighedWarps]

  static size_t bytes() {
    return kWeighedRows * ((kBits + 1) * sizeof(F) + sizeof(WeighedRow<R>) + kWeighedWarps * sizeof(Leader<R>)) +
           kWeighedWarps * (kDigits * sizeof(uint32_t) + sizeof(int32_t) + kWeighedStep * sizeof(Part));
  }
  __device__ __forceinline__ WeighedShared() {
    codes = dynamic_shared<Part>();
    sums = reinterpret_cast<F*>(codes + kWeighedWarps * kWeighedStep);
    totals = sums + kWeighedRows * kBits;
    rows = reinterpret_cast<WeighedRow<R>*>(totals + kWeighedRows);
    leaders = reinterpret_cast<Leader<R>*>(rows + kWeighedRows);
    digit_counts = reinterpret_cast<uint32_t*>(leaders + kWeighedRows * kWeighedWarps);
    warp_counts = reinterpret_cast<int32_t*>(digit_counts + kWeighedWarps * kDigits);
  }
};

// Cuts a row to its k largest.
template <class Group, class T>
__device__ __forceinline__ void cut_row(const T* values, int n_columns, int64_t k, uint32_t* digit_counts,
                                        int32_t* warp_counts, WeighedRow<Real<T>>* row) {
  using R = Real<T>;
  int64_t n_equal = 0;
  bool all_equal = false;
  const Key<R> kth = kth_key<R, Group>(values, n_columns, k, digit_counts, &n_equal, &all_equal);
  const bool to_count = !all_equal && kth != 0;
  const int last = to_count ? column_of_equal<R, Group>(values, n_columns, kth, n_equal, warp_counts) : n_columns;
  if (Group::rank() == 0) {
    row->kth = kth == 0 ? -static_cast<R>(INFINITY) : value_of<R>(kth);
    row->last_equal = last;
  }
}

// What the weights' bytes and the codes' bits of one step add to the accumulators.
template <class R>
struct WeighedSums {
  using F = typename Fixed<R>::type;
  static constexpr int kBytes = Fixed<R>::kBytes, kTiles = Fixed<R>::kTiles;
  int of_bits[kBytes][kTiles][4];
  F totals[2];

  // `codes`: the parts of this step's 32 codes, in shared memory; the warp has not met since they were written.
  template <class T>
  __device__ __forceinline__ void add(const Columns<T> (&values)[2], const WeighedRow<R> (&rows)[2], bool all, int column,
                                      const CodePart<kTiles>* codes) {
    uint32_t factors[kBytes][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        F weights[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const R value = values[r].at(4 * half + i);
          R weight = weight_of(value, rows[r].top) * rows[r].scale;
          if (!all) {
            // No branch a value.
            const bool counts = (value > rows[r].kth) | ((value == rows[r].kth) & (column + 4 * half + i <= rows[r].last_equal));
            weight = counts ? weight : R{0};
          }
          weights[i] = fixed_of(weight);
          totals[r] += weights[i];
        }
#pragma unroll
        for (int part = 0; part < kBytes / 4; ++part) {
          uint32_t words[4], bytes[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) words[i] = static_cast<uint32_t>(weights[i] >> (32 * part));
          transpose_bytes(words, bytes);
#pragma unroll
          for (int p = 0; p < 4; ++p) factors[4 * part + p][r + 2 * half] = bytes[p];
        }
      }
    }
    // Byte `tile` of the codes of four columns, of which every lane takes the bit of its column of the product.
    __syncwarp();
    uint32_t bits[kTiles][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      constexpr int kParts = kTiles / 4;
      uint4 four[kParts];  // of four codes: uint4s, as shared memory is read fastest
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        four[part] = reinterpret_cast<const uint4*>(codes + lane() % 4 * kWeighedColumns + 4 * half)[part];
      }
      uint32_t of_codes[4 * kParts];
      memcpy(of_codes, four, sizeof four);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        uint32_t words[4], bytes[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i] = of_codes[kParts * i + part];
        transpose_bytes(words, bytes);
#pragma unroll
        for (int p = 0; p < 4; ++p) bits[4 * part + p][half] = bytes[p] >> (lane() / 4) & 0x01010101u;
      }
    }
    __syncwarp();  // the codes are read
#pragma unroll
    for (int p = 0; p < kBytes; ++p) {
      if (!__any_sync(kFullMask, (factors[p][0] | factors[p][1] | factors[p][2] | factors[p][3]) != 0)) continue;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) multiply_bytes(of_bits[p][tile], factors[p], bits[tile]);
    }
  }
};

template <class T, int kLoad>
__global__ void __launch_bounds__(kWeighedWarps * kWarp, 1)
    weighted_kernel(const T* __restrict__ logits, int64_t n, int n_columns, const uint8_t* __restrict__ codebook,
                    int64_t n_bytes, int64_t k, bool wide, uint8_t* __restrict__ codes) {
  using R = Real<T>;
  using F = typename Fixed<R>::type;
  constexpr int kTiles = Fixed<R>::kTiles, kBits = 8 * kTiles, kThreads = kWeighedWarps * kWarp;
  const WeighedShared<R> shared;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kWeighedRows;
  const int n_rows = n - first_row < kWeighedRows ? static_cast<int>(n - first_row) : kWeighedRows;
  logits += first_row * n_columns;
  const bool all = k == n_columns;

  // A row by one warp; where these are few and long, by all, each with a run of it.
  const int parts = n_rows < kWeighedWarps && n_columns > 1024 ? kWeighedWarps : 1, run = (n_columns + parts - 1) / parts;
  for (int item = warp(); item < n_rows * parts; item += kWeighedWarps) {
    const int row = item / parts, from = item % parts * run;
    // The beginning of the warp's next row, from which on leader_of calls for itself.
    if (item + kWeighedWarps < n_rows * parts) {
      constexpr int kOfLane = 64 / static_cast<int>(sizeof(T)), kCalled = kCalledBytes / static_cast<int>(sizeof(T));
      const int next = (item + kWeighedWarps) / parts, next_from = (item + kWeighedWarps) % parts * run;
      const T* const start = logits + static_cast<int64_t>(next) * n_columns + next_from;
      for (int at = kOfLane * lane(); at < kCalled && next_from + at < n_columns; at += kOfLane * kWarp) {
        call_into_cache(start + at);
      }
    }
    const Leader<R> leader =
        leader_of(logits + static_cast<int64_t>(row) * n_columns, from, min(from + run, n_columns));
    if (lane() == 0) shared.leaders[row * kWeighedWarps + item % parts] = leader;
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < kWeighedRows) {
    const int row = static_cast<int>(threadIdx.x);
    WeighedRow<R> weighed{0, 0, 0, 0, 0};
    if (row < n_rows) {
      Leader<R> leader = shared.leaders[row * kWeighedWarps];
      for (int part = 1; part < parts; ++part) leader = MergeLeader{}(leader, shared.leaders[row * kWeighedWarps + part]);
      const bool any = leader.index >= 0;
      weighed = {leader.top, any ? scale_of(leader.sum, Fixed<R>::kBits) : R{0}, 0, any ? leader.index : 0, n_columns};
    }
    shared.rows[row] = weighed;
  }
  __syncthreads();
  if (!all) {
    if (n_columns <= kCutByWarps) {
      for (int row = warp(); row < n_rows; row += kWeighedWarps) {
        cut_row<OneWarp>(logits + static_cast<int64_t>(row) * n_columns, n_columns, k, shared.digit_counts + warp() * kDigits,
                         shared.warp_counts + warp(), shared.rows + row);
      }
    } else {
      for (int row = 0; row < n_rows; ++row) {
        cut_row<WholeBlock>(logits + static_cast<int64_t>(row) * n_columns, n_columns, k, shared.digit_counts,
                            shared.warp_counts, shared.rows + row);
      }
    }
    __syncthreads();
  }

  const int g = lane() / 4, t = lane() % 4;
  const WeighedRow<R> rows[2] = {shared.rows[g], shared.rows[g + 8]};
  const T* const values_of[2] = {logits + static_cast<int64_t>(min(g, n_rows - 1)) * n_columns,
                                 logits + static_cast<int64_t>(min(g + 8, n_rows - 1)) * n_columns};
  CodePart<kTiles>* codes_of_warp = shared.codes + warp() * kWeighedStep;
  // The logits and, one a lane, the codes of a step.
  const auto load = [&](int step, int64_t byte, Columns<T>(&values)[2], CodePart<kTiles>& code) {
    const int column = step * kWeighedStep + t * kWeighedColumns, of_lane = step * kWeighedStep + lane();
    // Of no column: any code, since what weighs nothing adds nothing.
    code.load(codebook + min(of_lane, n_columns - 1) * n_bytes, byte, n_bytes, wide);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int left = g + 8 * r < n_rows ? n_columns - column : 0;
      load_columns<T, kLoad>(values_of[r] + column, left, values[r]);
    }
  };
  const int n_steps = (n_columns + kWeighedStep - 1) / kWeighedStep;
  // Two lanes a row.
  constexpr int kCalledSteps =
      kWeighedWarps * (kCalledBytes / (kWeighedRows * kWeighedStep * static_cast<int>(sizeof(T))) + 1);
  const T* const called_row = logits + static_cast<int64_t>(min(lane() / 2, n_rows - 1)) * n_columns;
  const auto call = [&](int step) {
    const int column = step * kWeighedStep + lane() % 2 * (kWeighedStep / 2);
    if (lane() / 2 < n_rows && column < n_columns) call_into_cache(called_row + column);
  };
  const int64_t turn = static_cast<int64_t>(gridDim.y) * kTiles;
  for (int64_t byte = static_cast<int64_t>(blockIdx.y) * kTiles; byte < n_bytes; byte += turn) {
    for (int i = static_cast<int>(threadIdx.x); i < kWeighedRows * (kBits + 1); i += kThreads) shared.sums[i] = 0;  // and totals
    WeighedSums<R> sums{};
    Columns<T> values[2], next[2];
    CodePart<kTiles> code, next_code;
    constexpr bool kAhead = sizeof(T) < 8;  // double leaves no registers for that
    if (kAhead && warp() < n_steps) load(warp(), byte, values, code);
    for (int step = warp(); step < n_steps; step += kWeighedWarps) {
      if (!kAhead) load(step, byte, values, code);
      codes_of_warp[lane()] = code;
      call(step + kCalledSteps);
      if (kAhead && step + kWeighedWarps < n_steps) load(step + kWeighedWarps, byte, next, next_code);
      sums.add(values, rows, all, step * kWeighedStep + t * kWeighedColumns, codes_of_warp);
      if (kAhead) {
        values[0] = next[0];
        values[1] = next[1];
        code = next_code;
      }
    }
    __syncthreads();  // the sums are zero
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (sums.totals[r] != 0) atomicAdd(shared.totals + g + 8 * r, sums.totals[r]);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        F sum = 0;
#pragma unroll
        for (int p = 0; p < Fixed<R>::kBytes; ++p) sum += static_cast<F>(sums.of_bits[p][tile][i]) << (8 * p);
        if (sum != 0) atomicAdd(shared.sums + (g + 8 * (i / 2)) * kBits + 8 * tile + 2 * t + i % 2, sum);
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < n_rows * kTiles; i += kThreads) {
      const int row = i / kTiles;
      const int64_t at = byte + i % kTiles;
      if (at >= n_bytes) continue;
      const unsigned first = codebook[shared.rows[row].first * n_bytes + at];
      const F total = shared.totals[row];
      unsigned ones = 0;
      for (int bit = 0; bit < 8; ++bit) {
        const F sum = shared.sums[row * kBits + i % kTiles * 8 + bit], rest = total - sum;
        ones |= static_cast<unsigned>(sum > rest || (sum == rest && (first >> bit & 1))) << bit;
      }
      codes[(first_row + row) * n_bytes + at] = static_cast<uint8_t>(ones);
    }
    __syncthreads();  // the sums are read
  }
}

// Logits of 1 to 2^23 columns, on compute capability 8.0 and above.
template <class T>
int launch_weighted(const T* logits, int64_t n, int64_t n_columns, const uint8_t* codebook, int64_t n_bytes, int64_t k,
                    uint8_t* codes, Stream stream) {
  using R = Real<T>;
  const int64_t blocks = divide_up(n, kWeighedRows), turns = divide_up(n_bytes, Fixed<R>::kTiles);
  // Turns as blocks of their own while there are multiprocessors for them: each makes the first pass again.
  int64_t apart = divide_up(multiprocessors(), blocks);
  apart = apart < turns ? apart : turns;
  const bool wide = n_bytes % 4 == 0 && reinterpret_cast<uintptr_t>(codebook) % 4 == 0;
  // What divides the address of every row.
  const uintptr_t address = reinterpret_cast<uintptr_t>(logits) | static_cast<uintptr_t>(n_columns) * sizeof(T);
  dim3 grid = grid_of(blocks);
  grid.y = static_cast<unsigned>(apart > 0 ? apart : 1);
  const auto start = [&](auto kernel) {
    return launch(kernel, grid, dim3(kWeighedWarps * kWarp), WeighedShared<R>::bytes(), stream, logits, n,
                  static_cast<int>(n_columns), codebook, n_bytes, k, wide, codes);
  };
  if (address % 16 == 0) return start(weighted_kernel<T, 16>);
  if constexpr (sizeof(T) < 4) {
    if (address % 8 == 0) return start(weighted_kernel<T, 8>);
    if (address % 4 == 0) return start(weighted_kernel<T, 4>);
  }
  return start(weighted_kernel<T, static_cast<int>(sizeof(T))>);
}

}  // namespace dshc::cuda
