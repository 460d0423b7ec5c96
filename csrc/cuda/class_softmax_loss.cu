// Loss = -sum_j y_j log p_j with p the soft-max of a row and y_j = w on the run of the row's class, 0 elsewhere; stats =
// (largest logit, sum of exp(logit - largest)), which class_softmax_loss_backward.cu reads. Rows may come in parts, columns
// from left to right, with three numbers per row handed on (core/class_softmax_loss.h).
//
// Who holds a row: class_softmax_rows.h. What is left of float64 where a warp does is a few additions and multiplications; a
// division or a logarithm of it would take longer than all the rest. A long row ends with two meetings of the block: the
// largest logit, then the sums under it, which takes a thread one exponential.
// Moved: each logit once and a long row's run of the class once more, from cache: the least possible. For bfloat16 that leaves
// some 14 instructions per logit at full bandwidth, and 30 us of an H200's special function units per 123 million logits, a bit
// more than half of the reading. A logit takes a difference, a product and a lookup for its exponential, half an instruction
// for the maximum of two short logits in a word, one to take it out of its word, one to add: the loop is well below that.
// Exponentials are good to 2 units in the last place.
// What is kept is (largest, sum) and not their log-sum-exp, whose rounding for logits near 1e4 would put an error of 5e-4 on
// every probability. The few terms of the loss are added in float64. Rows that count nowhere (ignored, or a label that names
// no class) give 0, whatever their logits.
#include <type_traits>

#include "class_softmax_rows.h"

namespace dshc::cuda {
namespace {

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
    const HeldRows rows = held_rows(task.n);
    const auto kernel = task.n_columns > 16 * kWarp ? held_loss_kernel<T, kHeldColumns<Real<T>> / kWarp>
                                                    : held_loss_kernel<T, 16>;
    return launch(kernel, rows.grid, rows.block, 0, stream, task, carry, typed_loss,
                  typed_stats);
  });
}

}  // namespace dshc::cuda
