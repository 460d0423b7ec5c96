// Forward: loss = -sum_j y_j log p_j with p the soft-max of a row and y_j = w on the run of the row's class, 0 elsewhere;
// stats = (largest logit, sum of exp(logit - largest)). Backward: grad_logits = g ((sum y) p - y), which may lie over the
// logits. Rows may come in parts, columns from left to right, with three numbers per row handed on (core/class_softmax_loss.h).
//
// Layout: logits [n, n_columns] row by row, at any alignment. Thread maps:
// * up to 1024 columns (float64: 512) one warp per row, up to four rows per block, fewer where blocks would be fewer than multiprocessors. The
//   row is in registers, 16 or 32 logits a lane, loaded before anything that depends on the label, so that a small batch
//   waits for memory twice (label, class offsets) and not three times.
// * beyond, a block of 256 threads per row: 16 bytes per load from the row's first 16-byte boundary on, four of them in flight a
//   thread (16 KiB a block, 64 KiB a multiprocessor at four blocks; an H200 needs about 32 KiB there at 4.3 TB/s and some
//   1 us); in backward four more are asked for before those are worked on, at three blocks per multiprocessor. The few values outside the boundaries are read one by one.
// Moved: forward reads each logit once (a running maximum and sum per thread, merged by shuffles once per row) and a long row's
// run of the class once more, from cache; backward reads each logit and writes each gradient once: the least possible for
// both. For bfloat16 that leaves some 14 instructions per logit at full bandwidth; an exact expf alone takes ten of them, so
// exponentials are the special function unit's (quick_exp: 1 multiplication, 1 lookup): 10 instructions per logit in all,
// counted in the machine code of forward's loop for sm_90a.
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

__device__ __forceinline__ double weight_of(const ClassSoftmax& task, Run run) {
  return task.weight == 0.0 ? 1.0 / static_cast<double>(run.last - run.first) : task.weight;
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
__device__ __forceinline__ void finish_row(const ClassSoftmax& task, int64_t row, Run run, Sums all, double* carry,
                                           R* loss, R* stats) {
  if (task.first_column > 0) {
    const int64_t before = clamped_offset(task.first_column - run.first, run.last > run.first ? run.last - run.first : 0);
    const Sums left{carry[3 * row], carry[3 * row + 1], carry[3 * row + 2], before};
    const double largest = left.largest > all.largest ? left.largest : all.largest;
    const Sums a = left.under(largest), b = all.under(largest);
    all = {largest, a.sum + b.sum, a.below + b.below, a.n_own + b.n_own};
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

template <class T, int kHeld>
__global__ void __launch_bounds__(kMostRows * kWarp) held_loss_kernel(ClassSoftmax task, double* carry /* [n, 3] */,
                                                                      Real<T>* __restrict__ loss /* [n] */,
                                                                      Real<T>* __restrict__ stats /* [n, 2] */) {
  using R = Real<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + warp();
  if (row >= task.n) return;  // the whole warp
  const T* logits = static_cast<const T*>(task.logits) + row * task.n_columns;
  R held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = lane() + i * kWarp;
    held[i] = j < task.n_columns ? to_real(logits[j]) : -static_cast<R>(INFINITY);
  }
  Run run{};
  if (!run_of(task, task.labels[row], &run)) {
    if (lane() == 0) write_nothing(task, row, loss, stats);
    return;
  }
  R largest = held[0];
#pragma unroll
  for (int i = 1; i < kHeld; ++i) largest = larger_of(largest, held[i]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) largest = larger_of(largest, shuffle_xor(largest, offset));
  if (largest != largest) largest = -static_cast<R>(INFINITY);  // of NaNs alone; the sum tells
  const R shift = shift_of(largest);
  const Run columns = columns_of(task, run);
  R sum = 0;
  double below = 0.0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = lane() + i * kWarp;
    sum += quick_exp(held[i] - shift);
    if (j >= columns.first && j < columns.last) below += static_cast<double>(largest) - static_cast<double>(held[i]);
  }
  sum = warp_reduce(sum, Sum{});
  below = warp_reduce(below, Sum{});
  if (lane() != 0) return;
  finish_row(task, row, run, Sums{static_cast<double>(largest), static_cast<double>(sum), below, columns.last - columns.first},
             carry, loss, stats);
}

template <class T, class R>
__device__ __forceinline__ void add_vectors(const Values<T> (&vectors)[kTogether], MaxSum<R>* found) {
  R largest = found->largest;
#pragma unroll
  for (int u = 0; u < kTogether; ++u) {
#pragma unroll
    for (int i = 0; i < kPerVector<T>; ++i) largest = larger_of(largest, to_real(vectors[u].at[i]));
  }
  const R shift = shift_of(largest);
  found->sum *= quick_exp(found->largest - shift);  // 0 times 0 as long as all are -inf
  found->largest = largest;
#pragma unroll
  for (int u = 0; u < kTogether; ++u) {
#pragma unroll
    for (int i = 0; i < kPerVector<T>; ++i) found->sum += quick_exp(to_real(vectors[u].at[i]) - shift);
  }
}

// One thread's share of a row.
template <class T>
__device__ __forceinline__ MaxSum<Real<T>> share_of_row(const T* row, int64_t n) {
  using R = Real<T>;
  const R lowest = -static_cast<R>(INFINITY);
  const int64_t before = values_before_boundary(row, n);
  const int64_t n_vectors = (n - before) / kPerVector<T>, after = before + n_vectors * kPerVector<T>;
  MaxSum<R> found{lowest, 0};
  Values<T> vectors[kTogether];
  for (int64_t v = threadIdx.x; v < n_vectors; v += kTogether * blockDim.x) {
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int64_t at = v + u * blockDim.x;
      vectors[u] = at < n_vectors ? load_vector(row + before + at * kPerVector<T>) : vector_of(from_real<T>(lowest));
    }
    add_vectors(vectors, &found);
  }
  const int64_t edges[2] = {threadIdx.x < before ? static_cast<int64_t>(threadIdx.x) : n, after + threadIdx.x};
  for (const int64_t j : edges) {
    if (j < n) found = MergeMaxSum{}(found, MaxSum<R>{to_real(row[j]), R{1}});
  }
  return found;
}

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 4) loss_kernel(ClassSoftmax task, double* carry, Real<T>* __restrict__ loss,
                                                           Real<T>* __restrict__ stats) {
  using R = Real<T>;
  auto* scratch = dynamic_shared<unsigned char>();  // a MaxSum or a double for each warp
  const int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(task.logits) + row * task.n_columns;
  // The label is asked for before the logits and looked at after them: a row that counts nowhere is read in vain, and no other
  // row waits.
  const int64_t label = task.labels[row];
  const MaxSum<R> share = share_of_row(logits, task.n_columns);
  Run run{};
  if (!run_of(task, label, &run)) {  // the whole block
    if (threadIdx.x == 0) write_nothing(task, row, loss, stats);
    return;
  }
  const MaxSum<R> all = block_reduce(share, MergeMaxSum{}, reinterpret_cast<MaxSum<R>*>(scratch));
  const Run columns = columns_of(task, run);
  double below = 0.0;
  for (int64_t j = columns.first + threadIdx.x; j < columns.last; j += blockDim.x) {
    below += static_cast<double>(all.largest) - static_cast<double>(to_real(logits[j]));
  }
  below = block_reduce(below, Sum{}, reinterpret_cast<double*>(scratch));
  if (threadIdx.x != 0) return;
  finish_row(task, row, run,
             Sums{static_cast<double>(all.largest), static_cast<double>(all.sum), below, columns.last - columns.first}, carry,
             loss, stats);
}

// ---- backward ----

// gradient = scale exp(logit - largest), less `pull` in columns [first, last).
template <class R>
struct Gradient {
  R largest, scale, pull;
  Run columns;

  __device__ __forceinline__ R outside(R logit) const { return scale * quick_exp(logit - largest); }
  __device__ __forceinline__ bool inside(int64_t j) const { return j >= columns.first && j < columns.last; }
  __device__ __forceinline__ R at(int64_t j, R logit) const { return inside(j) ? outside(logit) - pull : outside(logit); }
};

template <class R>
__device__ __forceinline__ Gradient<R> gradient_of(const ClassSoftmax& task, Run run, R largest, R sum, R grad_loss) {
  const double grad = static_cast<double>(grad_loss), weight = weight_of(task, run);
  const double target_sum = weight * static_cast<double>(run.last - run.first);
  return {largest, static_cast<R>(grad * target_sum / static_cast<double>(sum)), static_cast<R>(grad * weight),
          columns_of(task, run)};
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
  const T* logits = static_cast<const T*>(task.logits) + row * task.n_columns;
  T* out = grad_logits + row * task.n_columns;
  R held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = lane() + i * kWarp;
    held[i] = j < task.n_columns ? to_real(logits[j]) : R{0};
  }
  const R largest = stats[2 * row], sum = stats[2 * row + 1], grad = grad_loss[row];
  Run run{};
  const bool counts = run_of(task, task.labels[row], &run);
  const Gradient<R> gradient = gradient_of(task, run, largest, sum, grad);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = lane() + i * kWarp;
    if (j < task.n_columns) out[j] = from_real<T>(counts ? gradient.at(j, held[i]) : R{0});
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) backward_kernel(ClassSoftmax task, const Real<T>* __restrict__ stats,
                                                               const Real<T>* __restrict__ grad_loss, T* grad_logits) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>;
  const int64_t row = task.n - 1 - static_cast<int64_t>(blockIdx.x), width = task.n_columns;
  const T* logits = static_cast<const T*>(task.logits) + row * width;
  T* out = grad_logits + row * width;
  const int64_t before = same_boundaries<T>(logits, out) ? values_before_boundary(logits, width) : width;
  const int64_t n_vectors = (width - before) / kPer, after = before + n_vectors * kPer;
  const auto fetch = [&](int64_t v, Values<T>(&vectors)[kTogether]) {
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int64_t at = v + u * blockDim.x;
      if (at < n_vectors) vectors[u] = load_vector_once(logits + before + at * kPer);
    }
  };
  Values<T> vectors[kTogether];  // the first ones are on the way before anything is known of the row
  fetch(threadIdx.x, vectors);
  const R largest = stats[2 * row], sum = stats[2 * row + 1], grad = grad_loss[row];
  Run run{};
  const bool counts = run_of(task, task.labels[row], &run);
  const Gradient<R> gradient = gradient_of(task, run, largest, sum, grad);

  const int64_t step = kTogether * static_cast<int64_t>(blockDim.x);
  for (int64_t v = threadIdx.x; v < n_vectors; v += step) {
    Values<T> next[kTogether];
    fetch(v + step, next);
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int64_t at = v + u * blockDim.x, j = before + at * kPer;
      if (at >= n_vectors) continue;
      Values<T> result = vector_of(from_real<T>(0));
      if (counts && j < gradient.columns.last && j + kPer > gradient.columns.first) {
#pragma unroll
        for (int i = 0; i < kPer; ++i) result.at[i] = from_real<T>(gradient.at(j + i, to_real(vectors[u].at[i])));
      } else if (counts) {
#pragma unroll
        for (int i = 0; i < kPer; ++i) result.at[i] = from_real<T>(gradient.outside(to_real(vectors[u].at[i])));
      }
      store_vector_once(out + j, result);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) vectors[u] = next[u];
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
      return launch(loss_kernel<T>, grid_of(task.n), dim3(kThreads), kThreads / kWarp * sizeof(MaxSum<double>), stream, task,
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
