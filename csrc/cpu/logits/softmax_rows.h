// A row of class_softmax_loss: its sums, its loss, its gradient.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "../../core/class_softmax_loss.h"
#include "float_rows.h"

namespace dshc::cpu {

inline double weight_of(const ClassSoftmax& task, int64_t m) {
  return task.weight == 0.0 ? 1.0 / static_cast<double>(m) : task.weight;
}

struct Run {
  int64_t first, last;
};

// False for a row that counts nowhere: an ignored one, or (unchecked) one whose label names no class.
inline bool run_of(const ClassSoftmax& task, int64_t row, Run* run) {
  const int64_t label = task.labels[row];
  if (label == task.ignore_index || label < 0 || label >= task.n_classes) return false;
  *run = {task.class_offsets[label], task.class_offsets[label + 1]};
  return true;
}

// The columns of the run that lie in these logits.
inline Run columns_of(const ClassSoftmax& task, Run run) {
  const auto column = [&](int64_t j) { return std::clamp<int64_t>(j - task.first_column, 0, task.n_columns); };
  return {column(run.first), column(run.last)};
}

// Of a row, or of its columns so far.
struct Sums {
  double largest;  // logit
  double sum;      // of exp(logit - largest)
  double below;    // sum of largest - logit over the `n_own` columns of the row's class
  int64_t n_own;

  // Nothing is computed where nothing changes: of two infinities the difference would be NaN.
  Sums under(double larger) const {
    if (largest == larger) return *this;
    return {larger, sum * std::exp(largest - larger),
            n_own == 0 ? below : below + static_cast<double>(n_own) * (larger - largest), n_own};
  }
};

// A row of logits, as float or double, in blocks: one block where nothing is converted, else as much as the first-level
// cache holds, so that what a conversion writes is still there when it is read.
template <class Real>
class Row {
 public:
  static constexpr int64_t kBlock = 2048;

  Row(const FloatKernels& kernels, const ClassSoftmax& task, int64_t row, std::vector<float>& buffer)
      : kernels_(kernels),
        dtype_(task.dtype),
        start_(row_start(task.logits, task.dtype, row, task.n_columns)),
        n_(task.n_columns),
        buffer_(buffer) {}

  // work(logits, first, n) for columns [first, first + n) of each block.
  template <class Work>
  void blocks(Work work) const {
    if constexpr (sizeof(Real) == 4) {
      if (dtype_ != DType::float32) {
        buffer_.resize(static_cast<size_t>(kBlock));
        const auto convert = dtype_ == DType::float16 ? kernels_.from_float16 : kernels_.from_bfloat16;
        for (int64_t first = 0; first < n_; first += kBlock) {
          const int64_t n = std::min(kBlock, n_ - first);
          if (!is_held_) convert(reinterpret_cast<const uint16_t*>(start_) + first, n, buffer_.data());
          work(static_cast<const Real*>(buffer_.data()), first, n);
        }
        is_held_ = n_ <= kBlock;
        return;
      }
    }
    work(reinterpret_cast<const Real*>(start_), int64_t{0}, n_);
  }

 private:
  const FloatKernels& kernels_;
  DType dtype_;
  const char* start_;
  int64_t n_;
  std::vector<float>& buffer_;
  mutable bool is_held_ = false;  // the only block is in the buffer
};

// Sum of largest - logit, in four parts that do not wait for each other.
template <class Real>
double sum_below(const Real* logits, int64_t n, double largest) {
  double parts[4] = {};
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    for (int part = 0; part < 4; ++part) parts[part] += largest - static_cast<double>(logits[j + part]);
  }
  for (; j < n; ++j) parts[0] += largest - static_cast<double>(logits[j]);
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// work(logits, n) for the part of a block that lies in `columns`.
template <class Values, class Work>
void inside(Values* block, int64_t first, int64_t n, Run columns, Work work) {
  const int64_t begin = std::max(first, columns.first), end = std::min(first + n, columns.last);
  if (begin < end) work(block + (begin - first), end - begin);
}

// `exps`, if not null: room for exp(logit - largest) of the row. True in *kept: they are there; not of a row whose logits
// are all -inf.
template <class Real>
Sums sums_of(const FloatKernels& kernels, const Row<Real>& row, Run columns, Real* exps, bool* kept) {
  constexpr Real kLowest = -std::numeric_limits<Real>::infinity();
  Real largest = kLowest;
  row.blocks([&](const Real* logits, int64_t, int64_t n) { largest = std::max(largest, max_value(kernels, logits, n)); });
  bool impossible = largest == kLowest;
  if (impossible) {
    row.blocks([&](const Real* logits, int64_t, int64_t n) { impossible = impossible && !any_nan(kernels, logits, n); });
  }
  *kept = exps != nullptr && !impossible;
  double sum = 0.0, below = 0.0;
  row.blocks([&](const Real* logits, int64_t first, int64_t n) {
    if (*kept) {
      sum += static_cast<double>(keep_exp(kernels, logits, n, largest, exps + first));
    } else if (!impossible) {
      sum += static_cast<double>(sum_exp(kernels, logits, n, largest));
    }
    inside(logits, first, n, columns, [&](const Real* own, int64_t n_own) {
      below += sum_below(own, n_own, static_cast<double>(largest));
    });
  });
  return {static_cast<double>(largest), static_cast<double>(static_cast<Real>(sum)), below, columns.last - columns.first};
}

// `exps` as for sums_of, of whole rows alone; returns whether they were kept. They may not lie over the logits.
template <class Real>
bool forward_row(const FloatKernels& kernels, const ClassSoftmax& task, const Row<Real>& logits, Run run, double* carry,
                 Real* stats, Real* loss, Real* exps = nullptr) {
  bool kept = false;
  Sums all = sums_of(kernels, logits, columns_of(task, run), exps, &kept);
  if (task.first_column > 0) {
    const int64_t n_before = std::clamp<int64_t>(task.first_column - run.first, 0, run.last - run.first);
    const Sums before{carry[0], carry[1], carry[2], n_before};
    const double largest = std::max(all.largest, before.largest);
    const Sums left = before.under(largest), right = all.under(largest);
    all = {largest, left.sum + right.sum, left.below + right.below, left.n_own + right.n_own};
  }
  if (task.first_column + task.n_columns < task.n_subclasses) {
    carry[0] = all.largest;
    carry[1] = all.sum;
    carry[2] = all.below;
    return kept;
  }
  const double m = static_cast<double>(run.last - run.first);
  *loss = static_cast<Real>(weight_of(task, run.last - run.first) * (m * std::log(all.sum) + all.below));
  stats[0] = static_cast<Real>(all.largest);
  stats[1] = static_cast<Real>(all.sum);
  return kept;
}

// The gradient of a row, by one of two ways to the same numbers: of its logits, or of the exponentials that forward kept.
template <class Real>
class RowGradient {
 public:
  // `out` may lie over the logits.
  RowGradient(const FloatKernels& kernels, const ClassSoftmax& task, Run run, const Real* stats, double grad, char* out)
      : kernels_(kernels), dtype_(task.dtype), n_(task.n_columns), columns_(columns_of(task, run)), shift_(stats[0]), out_(out) {
    const double weight = weight_of(task, run.last - run.first);
    const double target_sum = weight * static_cast<double>(run.last - run.first);
    scale_ = static_cast<Real>(grad * target_sum / static_cast<double>(stats[1]));
    pull_ = static_cast<Real>(grad * weight);
  }

  void of_logits(const Row<Real>& row, std::vector<float>& buffer) const {
    const bool short_floats = size_of(dtype_) == 2;
    if (short_floats) buffer.resize(static_cast<size_t>(Row<Real>::kBlock));
    row.blocks([&](const Real* logits, int64_t first, int64_t n) {
      Real* gradient = reinterpret_cast<Real*>(short_floats ? reinterpret_cast<char*>(buffer.data()) : out_);
      scaled_exp(kernels_, logits, n, shift_, scale_, gradient);
      finish(gradient, first, n);
    });
  }

  // `exps` may be `out`; of 16-bit logits it is written over.
  void of_exps(Real* exps) const {
    Real* scaled = size_of(dtype_) == 2 ? exps : reinterpret_cast<Real*>(out_);
    for (int64_t first = 0; first < n_; first += Row<Real>::kBlock) {
      const int64_t n = std::min(Row<Real>::kBlock, n_ - first);
      multiply(kernels_, exps + first, n, scale_, scaled + first);
      finish(scaled + first, first, n);
    }
  }

 private:
  // Of columns [first, first + n), scaled: less what pulls at the class's own, then in the logits' dtype.
  void finish(Real* gradient, int64_t first, int64_t n) const {
    inside(gradient, first, n, columns_, [&](Real* own, int64_t n_own) {
      for (int64_t j = 0; j < n_own; ++j) own[j] -= pull_;
    });
    if constexpr (sizeof(Real) == 4) {
      if (dtype_ == DType::float32) return;
      auto* halves = reinterpret_cast<uint16_t*>(out_) + first;
      (dtype_ == DType::float16 ? kernels_.to_float16 : kernels_.to_bfloat16)(gradient, n, halves);
    }
  }

  const FloatKernels& kernels_;
  DType dtype_;
  int64_t n_;
  Run columns_;
  Real shift_, scale_, pull_;
  char* out_;
};

}  // namespace dshc::cpu
