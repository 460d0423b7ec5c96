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
// With the gradient (class_softmax_loss_and_gradient) a logit is read once and its gradient written once, where one launch after
// the other reads it twice. Of a row in registers the exponentials stay there. Of a long one the logits stay in shared memory, a
// thread's own where it finds them without a meeting, as far as two blocks a multiprocessor have room; the rest, which was read
// last, comes from the second-level cache. Their exponentials are computed twice, as ever.
// What is kept is (largest, sum) and not their log-sum-exp, whose rounding for logits near 1e4 would put an error of 5e-4 on
// every probability. The few terms of the loss are added in float64. Rows that count nowhere (ignored, or a label that names
// no class) give 0, whatever their logits.
#include <type_traits>

#include "class_softmax_gradient.h"

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

// The loss alone, or its gradient too.
template <class T>
struct Along {
  const int64_t* n_kept;  // null: the gradient of a sum
  T* grad_logits;         // may be the logits
  int32_t kept_steps;     // of a long row: stay in shared memory
};

template <class T, int kHeld, bool kGradient>
__global__ void __launch_bounds__(kMostRows * kWarp, sizeof(T) == 8 ? 1 : 4)
    held_loss_kernel(ClassSoftmax task, double* carry /* [n, 3] */, Real<T>* __restrict__ loss /* [n] */,
                     Real<T>* __restrict__ stats /* [n, 2] */, Along<T> along) {
  using R = Real<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + warp();
  if (row >= task.n) return;  // the whole warp
  const int64_t label = task.labels[row];
  R held[kHeld];
  const int n = static_cast<int>(task.n_columns);
  hold_row(static_cast<const T*>(task.logits) + row * task.n_columns, n, from_real<T>(-static_cast<R>(INFINITY)), held);
  Run run{};
  if (!run_of(task, label, &run)) {
    if (lane() == 0) write_nothing(task, row, loss, stats);
    if constexpr (kGradient) {
      write_held<T, kHeld>(along.grad_logits + row * task.n_columns, n, [](int) { return from_real<T>(R{0}); });
    }
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
    const R term = quick_exp(held[i] - shift);
    sums[i % 2] += term;
    if (static_cast<unsigned>(held_column(i) - first) < n_own) below += largest - held[i];
    if constexpr (kGradient) held[i] = largest == shift ? term : static_cast<R>(NAN);  // of -inf alone
  }
  const R sum = warp_reduce(sums[0] + sums[1], Sum{});
  if constexpr (kGradient) {
    const Gradient<R> gradient = gradient_of(task, run, largest, sum, GradLoss<R>{nullptr, nullptr, along.n_kept}.at(row));
    write_held<T, kHeld>(along.grad_logits + row * task.n_columns, n, [&](int i) {
      return from_real<T>(gradient.from(held[i], static_cast<unsigned>(held_column(i) - first) < n_own));
    });
  }
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

// The gradient of a long row that the block has just read: a thread's own vectors of the first steps are in shared memory, the
// others were read last and come from the second-level cache, first.
template <class T>
__device__ __forceinline__ void write_gradient(const Gradient<Real<T>>& gradient, bool counts, const T* logits, T* out,
                                               int64_t width, const uint4* kept, int kept_steps) {
  constexpr int kPer = kPerVector<T>;
  const int64_t before = values_before_boundary(logits, width);
  if (!same_boundaries<T>(logits, out)) {
    write_singly(gradient, counts, logits, out, 0, width);
    return;
  }
  const int64_t n_vectors = (width - before) / kPer;
  const auto* at = reinterpret_cast<const uint4*>(logits + before);
  auto* to = reinterpret_cast<uint4*>(out + before);
  const auto write_step = [&](int64_t begin, auto load) {
    uint4 vectors[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int64_t v = begin + u * kThreads + threadIdx.x;
      if (v < n_vectors) vectors[u] = load(v);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int64_t v = begin + u * kThreads + threadIdx.x;
      if (v < n_vectors) __stcs(to + v, gradient_words<T>(gradient, counts, before + v * kPer, vectors[u]));
    }
  };
  const int64_t kept_end = static_cast<int64_t>(kept_steps) * kStep;
  for (int64_t begin = kept_end; begin < n_vectors; begin += kStep) {
    write_step(begin, [&](int64_t v) { return __ldcs(at + v); });
  }
  for (int64_t begin = 0; begin < kept_end && begin < n_vectors; begin += kStep) {
    write_step(begin, [&](int64_t v) { return kept[v]; });
  }
  write_singly(gradient, counts, logits, out, 0, before);
  write_singly(gradient, counts, logits, out, before + n_vectors * kPer, width);
}

template <class T, bool kGradient>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : kGradient ? 3 : 4)
    loss_kernel(ClassSoftmax task, double* carry, Real<T>* __restrict__ loss, Real<T>* __restrict__ stats, Along<T> along) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>;
  auto* shares = dynamic_shared<RowShares>();
  auto* kept = reinterpret_cast<uint4*>(shares + 1);
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
    if constexpr (kGradient) {
      write_gradient<T>(Gradient<R>{0, 0, 0, {0, 0}}, false, logits, along.grad_logits + row * width, width, nullptr, 0);
    }
    return;
  }

  MaxSum<R> share{-static_cast<R>(INFINITY), 0};
  [[maybe_unused]] int step = 0;
  for (; left > 0; left -= kStep, at += kStep) {
    uint4 next[kTogether];
    fetch<T>(at + kStep, left - kStep, next);
    add_vectors<T>(now, &share);
    if constexpr (kGradient) {
      if (step < along.kept_steps) {
#pragma unroll
        for (int u = 0; u < kTogether; ++u) {
          if (u * kThreads < left) kept[step * kStep + u * kThreads + threadIdx.x] = now[u];
        }
        ++step;
      }
    }
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
  if (!kGradient && threadIdx.x != 0) return;
  R whole_sum = 0;
  below = 0.0;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    whole_sum += static_cast<R>(shares->sum[w]);
    below += shares->below[w];
  }
  if (threadIdx.x == 0) {
    finish_row(task, row, run, largest, whole_sum, below, columns.last - columns.first, carry, loss, stats);
  }
  if constexpr (kGradient) {
    const R grad = GradLoss<R>{nullptr, nullptr, along.n_kept}.at(row);
    write_gradient<T>(gradient_of(task, run, largest, whole_sum, grad), true, logits, along.grad_logits + row * width, width,
                      kept, along.kept_steps);
  }
}

// Steps of a long row that shared memory keeps, of two blocks a multiprocessor, and the bytes they take.
struct KeptSteps {
  int32_t steps;
  size_t bytes;
};

KeptSteps kept_steps(int64_t row_bytes) {
  constexpr int64_t kStepBytes = kStep * 16, kReserved = 1024;  // a block, by the device
  const int64_t half = shared_bytes_a_multiprocessor() / 2 - kReserved, block = shared_bytes_a_block();
  const int64_t room = (half < block ? half : block) - static_cast<int64_t>(sizeof(RowShares)), needed = row_bytes / 16 * 16;
  if (needed <= room) return {static_cast<int32_t>(divide_up(needed, kStepBytes)), static_cast<size_t>(needed)};
  const int64_t steps = room > 0 ? room / kStepBytes : 0;
  return {static_cast<int32_t>(steps), static_cast<size_t>(steps * kStepBytes)};
}

template <bool kGradient, class T>
int run_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, Along<T> along, void* stream) {
  using R = Real<T>;
  auto *typed_loss = static_cast<R*>(loss), *typed_stats = static_cast<R*>(stats);
  if (task.n_columns > kHeldColumns<R>) {
    const KeptSteps kept = kGradient ? kept_steps(task.n_columns * static_cast<int64_t>(sizeof(T))) : KeptSteps{0, 0};
    along.kept_steps = kept.steps;
    return launch(loss_kernel<T, kGradient>, grid_of(task.n), dim3(kThreads), sizeof(RowShares) + kept.bytes, stream, task,
                  carry, typed_loss, typed_stats, along);
  }
  const HeldRows rows = held_rows(task.n);
  const auto kernel = task.n_columns > 16 * kWarp ? held_loss_kernel<T, kHeldColumns<R> / kWarp, kGradient>
                                                  : held_loss_kernel<T, 16, kGradient>;
  return launch(kernel, rows.grid, rows.block, 0, stream, task, carry, typed_loss, typed_stats, along);
}

}  // namespace

int class_softmax_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    return run_loss<false>(task, carry, loss, stats, Along<T>{nullptr, nullptr, 0}, stream);
  });
}

int class_softmax_loss_and_gradient(const ClassSoftmax& task, const int64_t* n_kept, void* loss, void* stats,
                                    void* grad_logits, void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    return run_loss<true>(task, nullptr, loss, stats, Along<T>{n_kept, static_cast<T*>(grad_logits), 0}, stream);
  });
}

}  // namespace dshc::cuda
