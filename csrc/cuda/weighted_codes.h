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
#include <type_traits>

#include "kth_key.h"
#include "mma.h"
#include "prefetch.h"
#include "vectors.h"

namespace dshc::cuda {

constexpr int kWeighedRows = 16, kWeighedWarps = 8, kWeighedColumns = 8, kWeighedStep = 32;
constexpr int kCutByWarps = 4096;  // columns up to which warps cut rows to their k largest, each its own
constexpr int64_t kMostWeighed = int64_t{1} << 23;

// The weights of R as integers: their bytes are `kBytes` factors; `kTiles` bytes of the code a turn, as accumulators allow.
template <class R>
struct Fixed {
  using type = uint32_t;
  static constexpr int kBytes = 4, kTiles = 8, kBits = 31;
};
template <>
struct Fixed<double> {
  using type = unsigned long long;
  static constexpr int kBytes = 8, kTiles = 4, kBits = 62;
};

// To nearest; 0 for NaN.
__device__ __forceinline__ uint32_t fixed_of(float value) {
#ifdef DSHC_SIMT
  return value > 0 ? static_cast<uint32_t>(std::nearbyint(value)) : 0;
#else
  return __float2uint_rn(value);
#endif
}
__device__ __forceinline__ unsigned long long fixed_of(double value) {
  return value > 0 ? static_cast<unsigned long long>(value + 0.5) : 0;
}

// The power of two that a weight, at most 1, is multiplied by, so that weights of sum `sum` stay below 2^bits together.
__device__ __forceinline__ float scale_of(float sum, int bits) {
  // 2^(e - 127) <= sum, and 2^(bits - (e - 127) - 1) times it is below 2^bits.
  const int exponent = static_cast<int>(__float_as_uint(sum) >> 23 & 255) - 127;
  return __uint_as_float(static_cast<uint32_t>(bits - 1 - exponent + 127) << 23);
}
__device__ __forceinline__ double scale_of(double sum, int bits) {
  const int64_t exponent = (__double_as_longlong(sum) >> 52 & 2047) - 1023;
  return __longlong_as_double((bits - 1 - exponent + 1023) << 52);
}

// exp(value - top); 1 for the largest, which may be infinite.
template <class R>
__device__ __forceinline__ R weight_of(R value, R top) {
  return value == top ? R{1} : quick_exp(value - top);
}

// The largest value, its lowest index (-1: NaNs alone), and the sum of the weights relative to it.
template <class R>
struct Leader {
  R top;
  int index;
  R sum;
};

template <class R>
__device__ __forceinline__ Leader<R> shuffle_xor(Leader<R> value, int offset) {
  return {shuffle_xor(value.top, offset), shuffle_xor(value.index, offset), shuffle_xor(value.sum, offset)};
}

struct MergeLeader {
  template <class R>
  __device__ __forceinline__ Leader<R> operator()(Leader<R> a, Leader<R> b) const {
    if (b.index < 0) return a;
    if (a.index < 0) return b;
    const bool b_first = b.top > a.top || (b.top == a.top && b.index < a.index);
    const Leader<R> first = b_first ? b : a, other = b_first ? a : b;
    return {first.top, first.index, first.sum + other.sum * weight_of(other.top, first.top)};
  }
};

// So far ahead of a warp's loads rows are called into the second-level cache: 8 warps a multiprocessor, which is what the
// accumulators leave room for, do not keep memory busy with what their registers hold.
constexpr int kCalledBytes = 6144;

// Of columns first .. last - 1, by a warp. NaN is passed over.
template <class T>
__device__ __forceinline__ Leader<Real<T>> leader_of(const T* row, int first, int last) {
  using R = Real<T>;
  constexpr int kTogether = 16 / (static_cast<int>(sizeof(R)) / 4);
  constexpr int kCalled = kCalledBytes / static_cast<int>(sizeof(T));
  const R nan = static_cast<R>(NAN);
  Leader<R> found{-static_cast<R>(INFINITY), -1, 0};
  for (int at = first + lane(); at - lane() < last; at += kTogether * kWarp) {
    // A batch is 32 times 64 bytes, or 32 of 16-bit values.
    const int called = at - lane() + kCalled + kTogether * lane();
    if (called < last) call_into_cache(row + called);
    R values[kTogether];
    R largest = nan;
#pragma unroll
    for (int u = 0; u < kTogether; ++u) values[u] = at + u * kWarp < last ? to_real(row[at + u * kWarp]) : nan;
#pragma unroll
    for (int u = 0; u < kTogether; ++u) largest = larger_of(largest, values[u]);
    if (largest > found.top || (found.index < 0 && largest == largest)) {
      found.sum = found.index < 0 ? R{0} : found.sum * quick_exp(found.top - largest);
      found.top = largest;
#pragma unroll
      for (int u = kTogether - 1; u >= 0; --u) found.index = values[u] == largest ? at + u * kWarp : found.index;
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) found.sum += larger_of(weight_of(values[u], found.top), R{0});
  }
  return warp_reduce(found, MergeLeader{});
}

// What the products need to know of a row. Only values above `kth` count, and those equal to it up to column `last_equal`.
template <class R>
struct WeighedRow {
  R top, scale, kth;
  int first, last_equal;
};

// kTiles bytes of a code from `byte` on; 0 past its end. `wide`: words lie on their boundaries.
template <int kTiles>
struct CodePart {
  uint32_t words[kTiles / 4];

  __device__ __forceinline__ void load(const uint8_t* code, int64_t byte, int64_t n_bytes, bool wide) {
    const int left = n_bytes - byte < kTiles ? static_cast<int>(n_bytes - byte) : kTiles;
    code += byte;
#pragma unroll
    for (int p = 0; p < kTiles / 4; ++p) words[p] = 0;
    if (wide) {
#pragma unroll
      for (int p = 0; p < kTiles / 4; ++p) {
        if (4 * p < left) words[p] = reinterpret_cast<const uint32_t*>(code)[p];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        if (i < left) words[i / 4] |= static_cast<uint32_t>(code[i]) << (8 * (i % 4));
      }
    }
  }
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

// The column of the n-th value that has the key `kth`, by the block or by a warp.
template <class R, class Group, class T>
__device__ __forceinline__ int column_of_equal(const T* row, int n_columns, Key<R> kth, int64_t n, int32_t* warp_counts) {
  int found = n_columns;
  for (int tile = 0; tile < n_columns && found == n_columns; tile += Group::size()) {
    const int j = tile + Group::rank();
    const unsigned equal = __ballot_sync(kFullMask, j < n_columns && key_of<R>(to_real(row[j])) == kth);
    if (lane() == 0) warp_counts[Group::rank() / kWarp] = static_cast<int32_t>(equal);
    Group::meet();
    for (int w = 0; w < Group::size() / kWarp; ++w) {
      const auto lanes = static_cast<unsigned>(warp_counts[w]);
      for (int i = 0; i < kWarp && n > 0; ++i) {
        n -= lanes >> i & 1;
        if (n == 0) found = tile + w * kWarp + i;
      }
    }
    Group::meet();
  }
  return found;
}

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

// 8 values as the words that were loaded, so that nothing waits for them before they are used.
template <class T>
struct Columns {
  static constexpr int kWords = kWeighedColumns * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords];

  __device__ __forceinline__ Real<T> at(int i) const {
    T values[kWeighedColumns];
    memcpy(values, words, sizeof values);
    return to_real(values[i]);
  }
};

// 8 values from `from` on, of which `left` (maybe none) belong to the row; NaN for the others. kLoad bytes a load.
template <class T, int kLoad>
__device__ __forceinline__ void load_columns(const T* from, int left, Columns<T>& values) {
  constexpr int kWords = Columns<T>::kWords;
#pragma unroll
  for (int w = 0; w < kWords; ++w) values.words[w] = 0x7FFFFFFFu;  // NaN in every type
  if (left >= kWeighedColumns) {
    if constexpr (kLoad == 16) {
#pragma unroll
      for (int w = 0; w < kWords; w += 4) {
        const uint4 word = reinterpret_cast<const uint4*>(from)[w / 4];
        values.words[w] = word.x;
        values.words[w + 1] = word.y;
        values.words[w + 2] = word.z;
        values.words[w + 3] = word.w;
      }
    } else if constexpr (kLoad == 8) {
#pragma unroll
      for (int w = 0; w < kWords; w += 2) {
        const uint2 word = reinterpret_cast<const uint2*>(from)[w / 2];
        values.words[w] = word.x;
        values.words[w + 1] = word.y;
      }
    } else if constexpr (kLoad == 4) {
#pragma unroll
      for (int w = 0; w < kWords; ++w) values.words[w] = reinterpret_cast<const uint32_t*>(from)[w];
    } else {
      memcpy(values.words, from, sizeof values.words);
    }
  } else if (left > 0) {
    T some[kWeighedColumns];
#pragma unroll
    for (int i = 0; i < kWeighedColumns; ++i) some[i] = i < left ? from[i] : from_real<T>(static_cast<Real<T>>(NAN));
    memcpy(values.words, some, sizeof values.words);
  }
}

// Byte p of each of four words, as a word.
__device__ __forceinline__ uint32_t take_bytes(uint32_t low, uint32_t high, uint32_t selector) {
#ifdef DSHC_SIMT
  const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
  uint32_t taken = 0;
  for (int i = 0; i < 4; ++i) taken |= static_cast<uint32_t>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return taken;
#else
  return __byte_perm(low, high, selector);
#endif
}
__device__ __forceinline__ void transpose_bytes(const uint32_t (&words)[4], uint32_t (&bytes)[4]) {
  const uint32_t low01 = take_bytes(words[0], words[1], 0x5140), low23 = take_bytes(words[2], words[3], 0x5140);
  const uint32_t high01 = take_bytes(words[0], words[1], 0x7362), high23 = take_bytes(words[2], words[3], 0x7362);
  bytes[0] = take_bytes(low01, low23, 0x5410);
  bytes[1] = take_bytes(low01, low23, 0x7632);
  bytes[2] = take_bytes(high01, high23, 0x5410);
  bytes[3] = take_bytes(high01, high23, 0x7632);
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
    if (address % 4 == 0) return start(weighted_kernel<T, 4>);
  }
  return start(weighted_kernel<T, static_cast<int>(sizeof(T))>);
}

}  // namespace dshc::cuda
