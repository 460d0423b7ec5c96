// The gradient of a row of class_softmax_loss: g ((sum y) p - y). Every way to a logit computes it by the same steps, so that a
// gradient does not depend on how rows are cut, where they lie, or whether it is made along with the loss.
#pragma once
#include "class_softmax_rows.h"

namespace dshc::cuda {

// What comes from above: a number a row, or one for all, divided by how many rows a mean is over (null: a sum).
template <class R>
struct GradLoss {
  const R* of_rows;
  const R* of_all;
  const int64_t* n_kept;

  __device__ __forceinline__ R at(int64_t row) const {
    if (of_rows != nullptr) return of_rows[row];
    const R all = of_all != nullptr ? *of_all : R{1};
    return n_kept != nullptr ? all / static_cast<R>(*n_kept) : all;
  }
};

// gradient = scale exp(logit - largest), less `pull` in columns [first, last). The difference first, so that the largest
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

// Of the logits in a vector, the first of which is column j; zeros for a row that counts nowhere.
template <class T>
__device__ __forceinline__ uint4 gradient_words(const Gradient<Real<T>>& gradient, bool counts, int64_t j, const uint4& vector) {
  using R = Real<T>;
  constexpr int kPer = kPerVector<T>;
  R reals[kPer];
  reals_of<T>(vector, reals);
#pragma unroll
  for (int i = 0; i < kPer; ++i) reals[i] = gradient.term(reals[i]);
  if (counts && j < gradient.columns.last && j + kPer > gradient.columns.first) {
#pragma unroll
    for (int i = 0; i < kPer; ++i) reals[i] = gradient.from(reals[i], gradient.inside(j + i));
  } else {
#pragma unroll
    for (int i = 0; i < kPer; ++i) reals[i] = counts ? gradient.scale * reals[i] : R{0};
  }
  return words_of<T>(reals);
}

// Logits [begin, end) of a row one by one, by the threads of a block.
template <class T>
__device__ __forceinline__ void write_singly(const Gradient<Real<T>>& gradient, bool counts, const T* logits, T* out,
                                             int64_t begin, int64_t end) {
#pragma unroll 4
  for (int64_t j = begin + threadIdx.x; j < end; j += blockDim.x) {
    out[j] = from_real<T>(counts ? gradient.at(j, to_real(logits[j])) : Real<T>{0});
  }
}

// A row in registers (hold_row): value(i) for column held_column(i). `out` may be the logits: a thread writes what it has read,
// and nobody else reads it.
template <class T, int kHeld, class Value>
__device__ __forceinline__ void write_held(T* out, int n, Value value) {
  T* own = out + 2 * lane();
  const int left = n - 2 * lane();
  if (in_pairs(out, n)) {
#pragma unroll
    for (int i = 0; i < kHeld; i += 2) {
      if (kWarp * i < left) *reinterpret_cast<PairWord<T>*>(own + kWarp * i) = pair_of(value(i), value(i + 1));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = i / 2 * 2 * kWarp + i % 2;
    if (j < left) own[j] = value(i);
  }
}

}  // namespace dshc::cuda
