// Forward: loss = -sum_j y_j log p_j with p the soft-max of a row and y_j = w on the run of the row's class, 0 elsewhere;
// stats = (largest logit, sum of exp(logit - largest)). Backward: grad_logits = g ((sum y) p - y), which may lie over the
// logits. Rows may come in parts, columns from left to right, with three numbers per row handed on (core/class_softmax_loss.h).
//
// Layout: logits [n, n_columns] row by row, at any alignment. Thread maps:
// * up to 1024 columns (float64: 512) one warp per row, up to four rows per block, fewer where blocks would be fewer than
//   multiprocessors; no barrier. The row is in registers, 16 or 32 logits a lane, two neighbours a load where rows are even
//   and lie so, all of them asked for, with the label, before anything is looked at: a small batch waits for memory twice
//   (label and logits, class offsets). What is left of float64 there is a few additions and multiplications; a division or a
//   logarithm of it would take longer than all the rest.
// * beyond, a block of 256 threads per row: 16 bytes per load from the row's first 16-byte boundary on, four of them a thread
//   worked on while four more are on the way (16 KiB a block, 64 KiB a multiprocessor at four blocks; an H200 needs about
//   32 KiB there at 4.3 TB/s and some 1 us). The few values outside the boundaries are read one by one. A row ends with two
//   meetings of the block: the largest logit, then the sums under it, which takes a thread one exponential.
// Moved: forward reads each logit once and a long row's run of the class once more, from cache; backward reads each logit and
// writes each gradient once: the least possible for both. For bfloat16 that leaves some 14 instructions per logit at full
// bandwidth, and 30 us of an H200's special function units per 123 million logits, a bit more than half of the reading.
// A logit takes a difference, a product and a lookup for its exponential, half an instruction for the maximum of two short
// logits in a word, one to take it out of its word, one to add: forward's loop and backward's are well below that.
// Exponentials are good to 2 units in the last place.
// Backward goes through long rows from the last to the first: of those that forward read last, some tens of megabytes are
// still in the second-level cache, and what backward reads and writes is marked as the first to leave it.
// What is kept is (largest, sum) and not their log-sum-exp, whose rounding for logits near 1e4 would put an error of 5e-4 on
// every probability. The few terms of the loss are added in float64. Rows that count nowhere (ignored, or a label that names
// no class) give 0, whatever their logits. Why not several blocks per row: 2^16 columns and more come with
// batches, whose rows fill the GPU. Limits: 2^31 rows (grid).
#include "../core/class_softmax_loss.h"

#include <type_traits>

#include "max_sum.h"
#include "vectors.h"

namespace dshc::cuda {
namespace {

constexpr int kThreads = 256, kTogether = 4;
constexpr int kMostRows = 4;  // a block, of rows in registers
// Columns of such a row; float64 needs two registers for each.
template <class R> constexpr int64_t kHeldColumns = (sizeof(R) == 8 ? 16 : 32) * kWarp;

struct Run {
  int64_t first, last;
};

// False for a row that counts nowhere.
__device__ __forceinline__ bool run_of(const ClassSoftmax& task, int64_t label, Run* run) {
  if (label == task.ignore_index || label < 0 || label >= task.n_classes) return false;
  run->first = clamped_offset(task.class_offsets[label], task.n_subclasses);
  run->last = clamped_offset(task.class_offsets[label + 1], task.n_subclasses);
  return true;
}

// The columns of the run that lie in these logits.
__device__ __forceinline__ Run columns_of(const ClassSoftmax& task, Run run) {
  return {clamped_offset(run.first - task.first_column, task.n_columns),
          clamped_offset(run.last - task.first_column, task.n_columns)};
}

// 1 / n to some 40 bits: of float32's inverse, which is one lookup and two multiply-adds, by one step of Newton's.
__device__ __forceinline__ double quick_inverse(double n) {
  const double near = static_cast<double>(1.0f / static_cast<float>(n));
  return near * (2.0 - n * near);
}

__device__ __forceinline__ double weight_of(const ClassSoftmax& task, Run run) {
  return task.weight == 0.0 ? 1.0 / static_cast<double>(run.last - run.first) : task.weight;
}

// Vectors u kThreads of a thread that has `left` of its row from `at` on, as loaded; -inf where the row ends.
template <class T>
__device__ __forceinline__ void fetch(const uint4* at, int64_t left, uint4 (&vectors)[kTogether]) {
#pragma unroll
  for (int u = 0; u < kTogether; ++u) {
    vectors[u] = lowest_words<T>();
    if (u * kThreads < left) vectors[u] = at[u * kThreads];
  }
}

constexpr int kStep = kTogether * kThreads;

// ---- a row in the registers of a warp ----

// Two neighbours in a row as one load.
template <int kBytes> struct Word;
template <> struct Word<4> { using type = uint32_t; };
template <> struct Word<8> { using type = uint2; };
template <> struct Word<16> { using type = uint4; };
template <class T> using PairWord = typename Word<2 * sizeof(T)>::type;

template <class T>
__device__ __forceinline__ PairWord<T> pair_of(T first, T second) {
  const T two[2] = {first, second};
  PairWord<T> word;
  memcpy(&word, two, sizeof word);
  return word;
}

// held[i] is column held_column(i): neighbours in pairs, so that a lane asks half as often.
__device__ __forceinline__ int held_column(int i) { return 2 * (lane() + i / 2 * kWarp) + i % 2; }

// Whether every pair of a row lies as one word does; the same for a whole warp.
template <class T>
__device__ __forceinline__ bool in_pairs(const T* row, int n) {
  return reinterpret_cast<uintptr_t>(row) % sizeof(PairWord<T>) == 0 && n % 2 == 0;
}

// `otherwise` behind the end of the row. All loads come before the first use of one: a use between them would wait.
template <class T, int kHeld>
__device__ __forceinline__ void hold_row(const T* row, int n, T otherwise, Real<T> (&held)[kHeld]) {
  const T* own = row + 2 * lane();
  const int left = n - 2 * lane();
  if (in_pairs(row, n)) {
    PairWord<T> words[kHeld / 2];
#pragma unroll
    for (int i = 0; i < kHeld / 2; ++i) {
      words[i] = pair_of(otherwise, otherwise);
      if (2 * kWarp * i < left) words[i] = *reinterpret_cast<const PairWord<T>*>(own + 2 * kWarp * i);
    }
#pragma unroll
    for (int i = 0; i < kHeld / 2; ++i) {
      T two[2];
      memcpy(two, &words[i], sizeof two);
      held[2 * i] = to_real(two[0]);
      held[2 * i + 1] = to_real(two[1]);
    }
    return;
  }
  T values[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = i / 2 * 2 * kWarp + i % 2;
    values[i] = otherwise;
    if (j < left) values[i] = own[j];
  }
#pragma unroll
  for (int i = 0; i < kHeld; ++i) held[i] = to_real(values[i]);
}

// ---- forward ----

// Of a row's columns so far: largest logit, sum of exp(logit - largest), sum of largest - logit over the run's n_own.
struct Sums {
  double largest, sum, below;
  int64_t n_own;

  // Nothing is computed where nothing changes: of two infinities the difference would be NaN.
  __device__ __forceinline__ Sums under(double larger) const {
    if (largest == larger) return *this;
    const double shift = n_own == 0 ? 0.0 : static_cast<double>(n_own) * (larger - largest);
    return {larger, sum * exp(largest - larger), below + shift, n_own};
  }
};

// Run by one thread: hands the row on, or ends it.
template <class R>
__device__ __forceinline__ void finish_row(const ClassSoftmax& task, int64_t row, Run run, R largest, R sum, double below,
                                           int64_t n_own, double* carry, R* loss, R* stats) {
  if constexpr (sizeof(R) == 4) {
    // Whole rows by a short logarithm, of a sum that is no more exact, and without a division of float64: nothing else is left
    // to do meanwhile.
    if (task.n_columns == task.n_subclasses) {
      const double n = static_cast<double>(n_own), minus_log_p = n * static_cast<double>(log_of(sum)) + below;
      loss[row] = static_cast<R>((task.weight == 0.0 ? quick_inverse(n) : task.weight) * minus_log_p);
      stats[2 * row] = largest;
      stats[2 * row + 1] = sum;
      return;
    }
  }
  Sums all{static_cast<double>(largest), static_cast<double>(sum), below, n_own};
  if (task.first_column > 0) {
    const int64_t before = clamped_offset(task.first_column - run.first, run.last > run.first ? run.last - run.first : 0);
    const Sums left{carry[3 * row], carry[3 * row + 1], carry[3 * row + 2], before};
    const double larger = left.largest > all.largest ? left.largest : all.largest;
    const Sums a = left.under(larger), b = all.under(larger);
    all = {larger, a.sum + b.sum, a.below + b.below, a.n_own + b.n_own};
  }
  if (task.first_column + task.n_columns < task.n_subclasses) {
    carry[3 * row] = all.largest;
    carry[3 * row + 1] = all.sum;
    carry[3 * row + 2] = all.below;
    return;
  }
  const double minus_log_p = static_cast<double>(run.last - run.first) * log(all.sum) + all.below;
  loss[row] = static_cast<R>(weight_of(task, run) * minus_log_p);
  stats[2 * row] = static_cast<R>(all.largest);
  stats[2 * row + 1] = static_cast<R>(all.sum);
}

template <class R>
__device__ __forceinline__ void write_nothing(const ClassSoftmax& task, int64_t row, R* loss, R* stats) {
  if (task.first_column + task.n_columns == task.n_subclasses) loss[row] = stats[2 * row] = stats[2 * row + 1] = 0;
}

// What to take off logits before an exponential: their largest, or 0 where all are -inf, of which inf - inf would be NaN.
template <class R>
__device__ __forceinline__ R shift_of(R largest) {
  return largest == -static_cast<R>(INFINITY) ? R{0} : largest;
}

struct Larger {
  template <class R>
  __device__ __forceinline__ R operator()(R a, R b) const { return larger_of(a, b); }
};

template <class T, int kHeld>
__global__ void __launch_bounds__(kMostRows * kWarp, sizeof(T) == 8 ? 1 : 4)
    held_loss_kernel(ClassSoftmax task, double* carry /* [n, 3] */, Real<T>* __restrict__ loss /* [n] */,
                     Real<T>* __restrict__ stats /* [n, 2] */) {
  using R = Real<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + warp();
  if (row >= task.n) return;  // the whole warp
  const int64_t label = task.labels[row];
  R held[kHeld];
  hold_row(static_cast<const T*>(task.logits) + row * task.n_columns, static_cast<int>(task.n_columns),
           from_real<T>(-static_cast<R>(INFINITY)), held);
  Run run{};
  if (!run_of(task, label, &run)) {
    if (lane() == 0) write_nothing(task, row, loss, stats);
    return;
  }
  R several[4] = {held[0], held[1], held[2], held[3]};
#pragma unroll
  for (int i = 4; i < kHeld; ++i) several[i % 4] = larger_of(several[i % 4], held[i]);
  R largest = larger_of(larger_of(several[0], several[1]), larger_of(several[2], several[3]));
  largest = warp_reduce(largest, Larger{});
  if (largest != largest) largest = -static_cast<R>(INFINITY);  // of NaNs alone; the sum tells
  const R shift = shift_of(largest);
  const Run columns = columns_of(task, run);
  const int first = static_cast<int>(columns.first);
  const unsigned n_own = columns.last > columns.first ? static_cast<unsigned>(columns.last - columns.first) : 0;
  R sums[2] = {0, 0}, below = 0;  // a lane's few terms, none of them negative
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    sums[i % 2] += quick_exp(held[i] - shift);
    if (static_cast<unsigned>(held_column(i) - first) < n_own) below += largest - held[i];
  }
  const R sum = warp_reduce(sums[0] + sums[1], Sum{});
  const double all_below = warp_reduce(static_cast<double>(below), Sum{});
  if (lane() != 0) return;
  finish_row(task, row, run, largest, sum, all_below, columns.last - columns.first, carry, loss, stats);
}

template <class T>
__device__ __forceinline__ void add_vectors(const uint4 (&vectors)[kTogether], MaxSum<Real<T>>* found) {
  using R = Real<T>;
  const R largest = largest_of<T>(vectors, found->largest);
  const R shift = shift_of(largest);
  R parts[kTogether] = {};
#pragma unroll
  for (int u = 0; u < kTogether; ++u) {
    R reals[kPerVector<T>];
    reals_of<T>(vectors[u], reals);
#pragma unroll
    for (int i = 0; i < kPerVector<T>; ++i) parts[u] += quick_exp(reals[i] - shift);
  }
  found->sum *= quick_exp(found->largest - shift);  // 0 times 0 as long as all are -inf
  found->sum += (parts[0] + parts[1]) + (parts[2] + parts[3]);
  found->largest = largest;
}

// What the warps of a block tell each other of a row.
struct RowShares {
  double sum[kThreads / kWarp], below[kThreads / kWarp], largest[kThreads / kWarp];
};

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 4) loss_kernel(ClassSoftmax task, double* carry,
                                                                                Real<T>* __restrict__ loss,
                                                                                Real<T>* __restrict__ stats) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>;
  auto* shares = dynamic_shared<RowShares>();
  const int64_t row = blockIdx.x, width = task.n_columns;
  const int64_t label = task.labels[row];
  const T* logits = static_cast<const T*>(task.logits) + row * width;
  const int64_t before = values_before_boundary(logits, width), n_vectors = (width - before) / kPer;
  const auto* at = reinterpret_cast<const uint4*>(logits + before) + threadIdx.x;
  int64_t left = n_vectors - static_cast<int64_t>(threadIdx.x);
  uint4 now[kTogether];  // the first ones are on the way before anything is known of the row
  fetch<T>(at, left, now);
  Run run{};
  if (!run_of(task, label, &run)) {  // the whole block
    if (threadIdx.x == 0) write_nothing(task, row, loss, stats);
    return;
  }

  MaxSum<R> share{-static_cast<R>(INFINITY), 0};
  for (; left > 0; left -= kStep, at += kStep) {
    uint4 next[kTogether];
    fetch<T>(at + kStep, left - kStep, next);
    add_vectors<T>(now, &share);
#pragma unroll
    for (int u = 0; u < kTogether; ++u) now[u] = next[u];
  }
  const int64_t after = before + n_vectors * kPer + threadIdx.x;
  if (threadIdx.x < before) share = MergeMaxSum{}(share, MaxSum<R>{to_real(logits[threadIdx.x]), R{1}});
  if (after < width) share = MergeMaxSum{}(share, MaxSum<R>{to_real(logits[after]), R{1}});

  // The first of the class's own logits, from cache, come while the warps find the largest one.
  const Run columns = columns_of(task, run);
  int64_t own = columns.first + threadIdx.x;
  R own_logit = own < columns.last ? to_real(logits[own]) : R{0};
  const R of_warp = warp_reduce(share.largest, Larger{});
  if (lane() == 0) shares->largest[warp()] = static_cast<double>(of_warp);
  __syncthreads();
  R largest = of_warp;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) largest = larger_of(largest, static_cast<R>(shares->largest[w]));
  const R sum = warp_reduce(share.sum * quick_exp(share.largest - shift_of(largest)), Sum{});
  double below = 0.0;
  for (; own < columns.last; own += kThreads) {
    below += static_cast<double>(largest) - static_cast<double>(own_logit);
    if (own + kThreads < columns.last) own_logit = to_real(logits[own + kThreads]);
  }
  below = warp_reduce(below, Sum{});
  if (lane() == 0) {
    shares->sum[warp()] = static_cast<double>(sum);
    shares->below[warp()] = below;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  R whole_sum = 0;
  below = 0.0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    whole_sum += static_cast<R>(shares->sum[w]);
    below += shares->below[w];
  }
  finish_row(task, row, run, largest, whole_sum, below, columns.last - columns.first, carry, loss, stats);
}

// ---- backward ----

// gradient = scale exp(logit - largest), less `pull` in columns [first, last). Every way to a logit computes it by the same
// steps, so that a gradient does not depend on how rows are cut or where they lie; the difference first, so that the largest
// logit's exponential is 1 and not nearly so: where it has all the probability, the gradient is 0.
template <class R>
struct Gradient {
  R shift, scale, pull;
  Run columns;

  __device__ __forceinline__ bool inside(int64_t j) const { return j >= columns.first && j < columns.last; }
  __device__ __forceinline__ R term(R logit) const { return quick_exp(logit - shift); }
  // Rounded once, inside and outside alike; written as two steps, it would be the compiler's choice in each place.
  __device__ __forceinline__ R from(R term, bool is_inside) const { return fma(scale, term, is_inside ? -pull : -R{0}); }
  __device__ __forceinline__ R at(int64_t j, R logit) const { return from(term(logit), inside(j)); }
};

template <class R>
__device__ __forceinline__ Gradient<R> gradient_of(const ClassSoftmax& task, Run run, R largest, R sum, R grad) {
  const double n = static_cast<double>(run.last - run.first);
  R scale = grad, pull = grad;
  if (task.weight != 0.0) {
    scale *= static_cast<R>(task.weight * n);
    pull *= static_cast<R>(task.weight);
  } else {
    pull /= static_cast<R>(n);
  }
  scale /= sum;
  return {largest, scale, pull, columns_of(task, run)};
}

// `out` may be the logits: a thread writes what it has read, and nobody else reads it.
template <class T, int kHeld>
__global__ void __launch_bounds__(kMostRows * kWarp) held_backward_kernel(ClassSoftmax task,
                                                                          const Real<T>* __restrict__ stats,
                                                                          const Real<T>* __restrict__ grad_loss,
                                                                          T* grad_logits) {
  using R = Real<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + warp();
  if (row >= task.n) return;
  const int64_t label = task.labels[row];
  const R largest = stats[2 * row], sum = stats[2 * row + 1], grad = grad_loss[row];
  const int n = static_cast<int>(task.n_columns);
  T* out = grad_logits + row * task.n_columns;
  R held[kHeld];
  hold_row(static_cast<const T*>(task.logits) + row * task.n_columns, n, from_real<T>(0), held);
  Run run{};
  const bool counts = run_of(task, label, &run);
  const Gradient<R> gradient = gradient_of(task, run, largest, sum, grad);
  const int first = static_cast<int>(gradient.columns.first), last = static_cast<int>(gradient.columns.last);
  const auto value = [&](int i) {
    const bool inside = held_column(i) >= first && held_column(i) < last;
    return from_real<T>(counts ? gradient.from(gradient.term(held[i]), inside) : R{0});
  };
  out += 2 * lane();
  const int left = n - 2 * lane();
  if (in_pairs(out - 2 * lane(), n)) {
#pragma unroll
    for (int i = 0; i < kHeld; i += 2) {
      if (kWarp * i < left) *reinterpret_cast<PairWord<T>*>(out + kWarp * i) = pair_of(value(i), value(i + 1));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = i / 2 * 2 * kWarp + i % 2;
    if (j < left) out[j] = value(i);
  }
}

// A multiprocessor; four would spill before compute capability 9.0.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBackwardBlocks = 3;
#else
constexpr int kBackwardBlocks = 4;
#endif

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : kBackwardBlocks)
    backward_kernel(ClassSoftmax task, const Real<T>* __restrict__ stats, const Real<T>* __restrict__ grad_loss,
                    T* grad_logits) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>;
  const int64_t row = task.n - 1 - static_cast<int64_t>(blockIdx.x), width = task.n_columns;
  const int64_t label = task.labels[row];
  const T* logits = static_cast<const T*>(task.logits) + row * width;
  T* out = grad_logits + row * width;
  const int64_t before = same_boundaries<T>(logits, out) ? values_before_boundary(logits, width) : width;
  const int64_t n_vectors = (width - before) / kPer, after = before + n_vectors * kPer;
  const auto* at = reinterpret_cast<const uint4*>(logits + before) + threadIdx.x;
  auto* to = reinterpret_cast<uint4*>(out + before) + threadIdx.x;
  int64_t left = n_vectors - static_cast<int64_t>(threadIdx.x);
  const auto fetch_once = [&](const uint4* from, int64_t there, uint4(&vectors)[kTogether]) {
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (u * kThreads < there) vectors[u] = __ldcs(from + u * kThreads);
    }
  };
  uint4 now[kTogether];  // the first ones are on the way before anything is known of the row
  fetch_once(at, left, now);
  const R largest = stats[2 * row], sum = stats[2 * row + 1], grad = grad_loss[row];
  Run run{};
  const bool counts = run_of(task, label, &run);
  const Gradient<R> gradient = gradient_of(task, run, largest, sum, grad);

  int64_t column = before + static_cast<int64_t>(threadIdx.x) * kPer;
  for (; left > 0; left -= kStep, at += kStep, to += kStep, column += kStep * kPer) {
    uint4 next[kTogether];
    fetch_once(at + kStep, left - kStep, next);
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (u * kThreads >= left) continue;
      const int64_t j = column + u * kThreads * kPer;
      R reals[kPer];
      reals_of<T>(now[u], reals);
#pragma unroll
      for (int i = 0; i < kPer; ++i) reals[i] = gradient.term(reals[i]);
      if (counts && j < gradient.columns.last && j + kPer > gradient.columns.first) {
#pragma unroll
        for (int i = 0; i < kPer; ++i) reals[i] = gradient.from(reals[i], gradient.inside(j + i));
      } else {
#pragma unroll
        for (int i = 0; i < kPer; ++i) reals[i] = counts ? gradient.scale * reals[i] : R{0};
      }
      __stcs(to + u * kThreads, words_of<T>(reals));
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) now[u] = next[u];
  }
#pragma unroll 4
  for (int64_t j = threadIdx.x; j < before; j += blockDim.x) {
    out[j] = from_real<T>(counts ? gradient.at(j, to_real(logits[j])) : R{0});
  }
  for (int64_t j = after + threadIdx.x; j < width; j += blockDim.x) {
    out[j] = from_real<T>(counts ? gradient.at(j, to_real(logits[j])) : R{0});
  }
}

// Rows a block, where a warp has one.
int rows_for(int64_t n) {
  int rows = kMostRows;
  while (rows > 1 && divide_up(n, rows) < 2 * multiprocessors()) rows /= 2;
  return rows;
}

}  // namespace

int class_softmax_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    auto *typed_loss = static_cast<Real<T>*>(loss), *typed_stats = static_cast<Real<T>*>(stats);
    if (task.n_columns > kHeldColumns<Real<T>>) {
      return launch(loss_kernel<T>, grid_of(task.n), dim3(kThreads), sizeof(RowShares), stream, task,
                    carry, typed_loss, typed_stats);
    }
    const int rows = rows_for(task.n);
    const auto kernel = task.n_columns > 16 * kWarp ? held_loss_kernel<T, kHeldColumns<Real<T>> / kWarp>
                                                    : held_loss_kernel<T, 16>;
    return launch(kernel, grid_of(divide_up(task.n, rows)), dim3(rows * kWarp), 0, stream, task, carry, typed_loss,
                  typed_stats);
  });
}

int class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    const auto *typed_stats = static_cast<const Real<T>*>(stats), *typed_grad = static_cast<const Real<T>*>(grad_loss);
    if (task.n_columns > kHeldColumns<Real<T>>) {
      return launch(backward_kernel<T>, grid_of(task.n), dim3(kThreads), 0, stream, task, typed_stats, typed_grad,
                    static_cast<T*>(grad_logits));
    }
    const int rows = rows_for(task.n);
    const auto kernel = task.n_columns > 16 * kWarp ? held_backward_kernel<T, kHeldColumns<Real<T>> / kWarp>
                                                    : held_backward_kernel<T, 16>;
    return launch(kernel, grid_of(divide_up(task.n, rows)), dim3(rows * kWarp), 0, stream, task, typed_stats, typed_grad,
                  static_cast<T*>(grad_logits));
  });
}

}  // namespace dshc::cuda
