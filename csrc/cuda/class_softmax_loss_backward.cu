// grad_logits = g ((sum y) p - y) of class_softmax_loss.cu, from its stats; it may lie over the logits.
//
// Who holds a row: class_softmax_rows.h. Moved: each logit read and each gradient written once, the least possible.
// Long rows are gone through from the last to the first: of those that forward read last, some tens of megabytes are still in
// the second-level cache, and what is read and written here is marked as the first to leave it. Rows that count nowhere
// (ignored, or a label that names no class) give 0, whatever their logits.
#include <type_traits>

#include "class_softmax_gradient.h"

namespace dshc::cuda {
namespace {

// Of a gradient that was made along with the loss, where nothing but 1 comes from above: what is there already is right, and
// nobody had to wait for the number.
template <class R>
__device__ __forceinline__ bool is_done(const GradLoss<R>& grad_loss) {
  return grad_loss.of_all != nullptr && *grad_loss.of_all == R{1};
}

template <class T, int kHeld>
__global__ void __launch_bounds__(kMostRows * kWarp) held_backward_kernel(ClassSoftmax task,
                                                                          const Real<T>* __restrict__ stats,
                                                                          GradLoss<Real<T>> grad_loss, T* grad_logits) {
  using R = Real<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + warp();
  if (row >= task.n || is_done(grad_loss)) return;
  const int64_t label = task.labels[row];
  const R largest = stats[2 * row], sum = stats[2 * row + 1], grad = grad_loss.at(row);
  const int n = static_cast<int>(task.n_columns);
  R held[kHeld];
  hold_row(static_cast<const T*>(task.logits) + row * task.n_columns, n, from_real<T>(0), held);
  Run run{};
  const bool counts = run_of(task, label, &run);
  const Gradient<R> gradient = gradient_of(task, run, largest, sum, grad);
  const int first = static_cast<int>(gradient.columns.first), last = static_cast<int>(gradient.columns.last);
  write_held<T, kHeld>(grad_logits + row * task.n_columns, n, [&](int i) {
    const bool inside = held_column(i) >= first && held_column(i) < last;
    return from_real<T>(counts ? gradient.from(gradient.term(held[i]), inside) : R{0});
  });
}

// A multiprocessor; four would spill before compute capability 9.0.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBackwardBlocks = 3;
#else
constexpr int kBackwardBlocks = 4;
#endif

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : kBackwardBlocks)
    backward_kernel(ClassSoftmax task, const Real<T>* __restrict__ stats, GradLoss<Real<T>> grad_loss, T* grad_logits) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>;
  if (is_done(grad_loss)) return;
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
  const R largest = stats[2 * row], sum = stats[2 * row + 1], grad = grad_loss.at(row);
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
      __stcs(to + u * kThreads, gradient_words<T>(gradient, counts, column + u * kThreads * kPer, now[u]));
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) now[u] = next[u];
  }
  write_singly(gradient, counts, logits, out, 0, before);
  write_singly(gradient, counts, logits, out, after, width);
}

template <class T>
int backward(const ClassSoftmax& task, const void* stats, GradLoss<Real<T>> grad_loss, void* grad_logits, void* stream) {
  const auto* typed_stats = static_cast<const Real<T>*>(stats);
  if (task.n_columns > kHeldColumns<Real<T>>) {
    return launch(backward_kernel<T>, grid_of(task.n), dim3(kThreads), 0, stream, task, typed_stats, grad_loss,
                  static_cast<T*>(grad_logits));
  }
  const HeldRows rows = held_rows(task.n);
  const auto kernel = task.n_columns > 16 * kWarp ? held_backward_kernel<T, kHeldColumns<Real<T>> / kWarp>
                                                  : held_backward_kernel<T, 16>;
  return launch(kernel, rows.grid, rows.block, 0, stream, task, typed_stats, grad_loss, static_cast<T*>(grad_logits));
}

}  // namespace

int class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    return backward<T>(task, stats, {static_cast<const Real<T>*>(grad_loss), nullptr, nullptr}, grad_logits, stream);
  });
}

int class_softmax_loss_rescale(const ClassSoftmax& task, const void* stats, const void* grad_loss, const int64_t* n_kept,
                               void* grad_logits, void* stream) {
  if (task.n == 0) return 0;
  return with_floats(task.dtype, task.logits, [&](auto* logits) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(logits)>>;
    return backward<T>(task, stats, {nullptr, static_cast<const Real<T>*>(grad_loss), n_kept}, grad_logits, stream);
  });
}

}  // namespace dshc::cuda
