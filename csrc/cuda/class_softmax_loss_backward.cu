// grad_logits = g ((sum y) p - y) of class_softmax_loss.cu, from its stats; it may lie over the logits.
//
// Who holds a row: class_softmax_rows.h. Moved: each logit read and each gradient written once, the least possible.
// Long rows are gone through from the last to the first: of those that forward read last, some tens of megabytes are still in
// the second-level cache, and what is read and written here is marked as the first to leave it. Rows that count nowhere
// (ignored, or a label that names no class) give 0, whatever their logits.
#include <type_traits>

#include "class_softmax_rows.h"

namespace dshc::cuda {
namespace {

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

}  // namespace

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
    const HeldRows rows = held_rows(task.n);
    const auto kernel = task.n_columns > 16 * kWarp ? held_backward_kernel<T, kHeldColumns<Real<T>> / kWarp>
                                                    : held_backward_kernel<T, 16>;
    return launch(kernel, rows.grid, rows.block, 0, stream, task, typed_stats, typed_grad,
                  static_cast<T*>(grad_logits));
  });
}

}  // namespace dshc::cuda
