// Forward: loss = -sum_j y_j log p_j with p the soft-max of a row and y_j = w on the run of the row's class, 0 elsewhere;
// stats = (largest logit, sum of exp(logit - largest)). Backward: grad_logits = g ((sum y) p - y).
//
// Layout: logits [n, n_subclasses] row by row. Thread map: a block a row, 32 to 256 threads by its length, neighbouring
// threads on neighbouring logits. Forward reads each logit once (a running maximum and sum a thread, merged by shuffles)
// and the run of the class once more, from cache; backward reads each logit and writes each gradient once: the least
// possible for both, with 1.25 and 1 exponentials a logit. What is kept is (largest, sum) and not their log-sum-exp, whose
// rounding for logits near 1e4 would put an error of 5e-4 on every probability. The few terms of the loss are added in
// float64. Rows that count nowhere (ignored, or a label that names no class) give 0 and read no logits.
// Limits: 2^31 rows (grid). A row longer than a block's share is walked; it is never held.
#include "../core/class_softmax_loss.h"

#include <type_traits>

#include "max_sum.h"

namespace dshc::cuda {
namespace {

constexpr int kMostThreads = 256;

// About eight logits a thread, and whole warps.
int threads_for(int64_t width) {
  int threads = kWarp;
  while (threads < kMostThreads && threads * 8 < width) threads *= 2;
  return threads;
}

struct Run {
  int64_t first, last;
};

// False for a row that counts nowhere.
__device__ __forceinline__ bool run_of(const ClassSoftmax& task, int64_t row, Run* run) {
  const int64_t label = task.labels[row];
  if (label == task.ignore_index || label < 0 || label >= task.n_classes) return false;
  run->first = clamped_offset(task.class_offsets[label], task.n_subclasses);
  run->last = clamped_offset(task.class_offsets[label + 1], task.n_subclasses);
  return true;
}

__device__ __forceinline__ double weight_of(const ClassSoftmax& task, Run run) {
  return task.weight == 0.0 ? 1.0 / static_cast<double>(run.last - run.first) : task.weight;
}

template <class T>
__global__ void __launch_bounds__(kMostThreads) loss_kernel(ClassSoftmax task, Real<T>* __restrict__ loss /* [n] */,
                                                            Real<T>* __restrict__ stats /* [n, 2] */) {
  using R = Real<T>;
  auto* scratch = dynamic_shared<unsigned char>();  // a MaxSum or a double for each warp
  const int64_t row = blockIdx.x;
  Run run{};
  if (!run_of(task, row, &run)) {  // the whole block
    if (threadIdx.x == 0) loss[row] = stats[2 * row] = stats[2 * row + 1] = 0;
    return;
  }
  const T* logits = static_cast<const T*>(task.logits) + row * task.n_subclasses;
  const MaxSum<R> all = block_reduce(thread_max_sum(logits, task.n_subclasses, threadIdx.x, blockDim.x), MergeMaxSum{},
                                     reinterpret_cast<MaxSum<R>*>(scratch));
  const double log_sum = log(static_cast<double>(all.sum));
  double minus_log_p = 0.0;
  for (int64_t j = run.first + threadIdx.x; j < run.last; j += blockDim.x) {
    minus_log_p += log_sum + (static_cast<double>(all.largest) - static_cast<double>(to_real(logits[j])));
  }
  minus_log_p = block_reduce(minus_log_p, Sum{}, reinterpret_cast<double*>(scratch));
  if (threadIdx.x != 0) return;
  loss[row] = static_cast<R>(weight_of(task, run) * minus_log_p);
  stats[2 * row] = all.largest;
  stats[2 * row + 1] = all.sum;
}

template <class T>
__global__ void __launch_bounds__(kMostThreads, 3) backward_kernel(ClassSoftmax task, const Real<T>* __restrict__ stats,
                                                                   const Real<T>* __restrict__ grad_loss,
                                                                   T* __restrict__ grad_logits) {
  using R = Real<T>;
  const int64_t row = blockIdx.x, width = task.n_subclasses;
  const T* logits = static_cast<const T*>(task.logits) + row * width;
  T* out = grad_logits + row * width;
  Run run{};
  if (!run_of(task, row, &run)) {
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) out[j] = from_real<T>(0);
    return;
  }
  const double grad = static_cast<double>(grad_loss[row]), weight = weight_of(task, run);
  const double target_sum = weight * static_cast<double>(run.last - run.first);
  const R largest = stats[2 * row], pull = static_cast<R>(grad * weight);
  const R scale = static_cast<R>(grad * target_sum / static_cast<double>(stats[2 * row + 1]));
#pragma unroll 4
  for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
    const R gradient = scale * exp_of(to_real(logits[j]) - largest);
    out[j] = from_real<T>(j >= run.first && j < run.last ? gradient - pull : gradient);
  }
}

}  // namespace

int class_softmax_loss(const ClassSoftmax& task, void* loss, void* stats, void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    const int threads = threads_for(task.n_subclasses);
    return launch(loss_kernel<T>, grid_of(task.n), dim3(threads), threads / kWarp * sizeof(MaxSum<double>), stream, task,
                  static_cast<Real<T>*>(loss), static_cast<Real<T>*>(stats));
  });
}

int class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    return launch(backward_kernel<T>, grid_of(task.n), dim3(threads_for(task.n_subclasses)), 0, stream, task,
                  static_cast<const Real<T>*>(stats), static_cast<const Real<T>*>(grad_loss),
                  static_cast<T*>(grad_logits));
  });
}

}  // namespace dshc::cuda
