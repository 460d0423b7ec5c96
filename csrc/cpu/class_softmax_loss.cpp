// Forward: largest logit, then the sum of exp(logit - largest) and the loss from the few logits of the row's own class. The row
// is read from memory once and from cache after that; 16-bit logits become float a block at a time, of long rows
// each time anew. Backward: one pass, reading logits and writing the gradient. Of rows that
// come in parts, each part's three numbers are merged with those of the parts before it, in double.
//
// What is kept for the backward pass is (largest, sum) and not their log-sum-exp: for logits near 1e4 the rounding of a
// float32 log-sum-exp alone would put an error of 5e-4 on every probability.
#include "../core/class_softmax_loss.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "call/call.h"
#include "call/threads.h"
#include "logits/float_rows.h"

namespace dshc::cpu {
namespace {

double weight_of(const ClassSoftmax& task, int64_t m) {
  return task.weight == 0.0 ? 1.0 / static_cast<double>(m) : task.weight;
}

struct Run {
  int64_t first, last;
};

// False for a row that counts nowhere: an ignored one, or (unchecked) one whose label names no class.
bool run_of(const ClassSoftmax& task, int64_t row, Run* run) {
  const int64_t label = task.labels[row];
  if (label == task.ignore_index || label < 0 || label >= task.n_classes) return false;
  *run = {task.class_offsets[label], task.class_offsets[label + 1]};
  return true;
}

// The columns of the run that lie in these logits.
Run columns_of(const ClassSoftmax& task, Run run) {
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

template <class Real>
Sums sums_of(const FloatKernels& kernels, const Row<Real>& row, Run columns) {
  constexpr Real kLowest = -std::numeric_limits<Real>::infinity();
  Real largest = kLowest;
  row.blocks([&](const Real* logits, int64_t, int64_t n) { largest = std::max(largest, max_value(kernels, logits, n)); });
  bool impossible = largest == kLowest;
  if (impossible) {
    row.blocks([&](const Real* logits, int64_t, int64_t n) { impossible = impossible && !any_nan(kernels, logits, n); });
  }
  double sum = 0.0, below = 0.0;
  row.blocks([&](const Real* logits, int64_t first, int64_t n) {
    if (!impossible) sum += static_cast<double>(sum_exp(kernels, logits, n, largest));
    inside(logits, first, n, columns, [&](const Real* own, int64_t n_own) {
      below += sum_below(own, n_own, static_cast<double>(largest));
    });
  });
  return {static_cast<double>(largest), static_cast<double>(static_cast<Real>(sum)), below, columns.last - columns.first};
}

template <class Real>
void forward_row(const FloatKernels& kernels, const ClassSoftmax& task, const Row<Real>& logits, Run run, double* carry,
                 Real* stats, Real* loss) {
  Sums all = sums_of(kernels, logits, columns_of(task, run));
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
    return;
  }
  const double m = static_cast<double>(run.last - run.first);
  *loss = static_cast<Real>(weight_of(task, run.last - run.first) * (m * std::log(all.sum) + all.below));
  stats[0] = static_cast<Real>(all.largest);
  stats[1] = static_cast<Real>(all.sum);
}

// scale * exp(logit - shift), in float or double.
void gradient_row(const FloatKernels& kernels, const float* logits, int64_t n, float shift, float scale, float* out) {
  kernels.scaled_exp(logits, n, shift, scale, out);
}
void gradient_row(const FloatKernels& kernels, const double* logits, int64_t n, double shift, double scale, double* out) {
  kernels.scaled_exp_64(logits, n, shift, scale, out);
}

// `out`: the row's gradient, which may lie over its logits.
template <class Real>
void backward_row(const FloatKernels& kernels, const ClassSoftmax& task, const Row<Real>& row, Run run, const Real* stats,
                  double grad, char* out, std::vector<float>& buffer) {
  const double weight = weight_of(task, run.last - run.first);
  const double target_sum = weight * static_cast<double>(run.last - run.first);
  const Real scale = static_cast<Real>(grad * target_sum / static_cast<double>(stats[1]));
  const Real pull = static_cast<Real>(grad * weight);
  const Run columns = columns_of(task, run);
  const bool short_floats = size_of(task.dtype) == 2;
  if (short_floats) buffer.resize(static_cast<size_t>(Row<Real>::kBlock));
  row.blocks([&](const Real* logits, int64_t first, int64_t n) {
    Real* gradient = reinterpret_cast<Real*>(short_floats ? reinterpret_cast<char*>(buffer.data()) : out);
    gradient_row(kernels, logits, n, stats[0], scale, gradient);
    inside(gradient, first, n, columns, [&](Real* own, int64_t n_own) {
      for (int64_t j = 0; j < n_own; ++j) own[j] -= pull;
    });
    if (short_floats) {
      auto* halves = reinterpret_cast<uint16_t*>(out) + first;
      (task.dtype == DType::float16 ? kernels.to_float16 : kernels.to_bfloat16)(buffer.data(), n, halves);
    }
  });
}

int64_t tasks_for(const ClassSoftmax& task, int n_threads) {
  return task_count(task.n, 0.5 * static_cast<double>(task.n_columns) + 50.0, n_threads);
}

template <class Work>
void over_rows(int64_t n, int64_t n_tasks, int n_threads, Work work) {
  parallel_for(n_tasks, n_threads, [&](int64_t t) { work(n * t / n_tasks, n * (t + 1) / n_tasks); });
}

}  // namespace

Status class_softmax_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, bool check, int n_threads) {
  const Call call;
  const FloatKernels& kernels = *level().floats;
  for (int64_t row = 0; check && row < task.n; ++row) {
    const int64_t label = task.labels[row];
    if (label != task.ignore_index && (label < 0 || label >= task.n_classes)) {
      return {Fault::label_out_of_range, row, label};
    }
  }
  const bool last = task.first_column + task.n_columns == task.n_subclasses;
  over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer;
    const auto one_row = [&](int64_t row, auto* row_stats, auto* row_loss) {
      using Real = std::remove_pointer_t<decltype(row_loss)>;
      Run run{};
      if (run_of(task, row, &run)) {
        const Row<Real> logits(kernels, task, row, buffer);
        forward_row(kernels, task, logits, run, carry ? carry + 3 * row : nullptr, row_stats, row_loss);
      } else if (last) {
        *row_loss = row_stats[0] = row_stats[1] = 0;
      }
    };
    for (int64_t row = begin; row < end; ++row) {
      if (task.dtype == DType::float64) {
        one_row(row, static_cast<double*>(stats) + 2 * row, static_cast<double*>(loss) + row);
      } else {
        one_row(row, static_cast<float*>(stats) + 2 * row, static_cast<float*>(loss) + row);
      }
    }
  });
  return {};
}

void class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                 int n_threads) {
  const Call call;
  const FloatKernels& kernels = *level().floats;
  const int64_t width = task.n_columns, row_bytes = width * size_of(task.dtype);
  over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer, gradient;
    const auto one_row = [&](int64_t row, Run run, const auto* row_stats, const auto* row_grad, char* out) {
      using Real = std::remove_const_t<std::remove_pointer_t<decltype(row_grad)>>;
      const Row<Real> logits(kernels, task, row, buffer);
      backward_row(kernels, task, logits, run, row_stats, static_cast<double>(*row_grad), out, gradient);
    };
    for (int64_t row = begin; row < end; ++row) {
      char* out = static_cast<char*>(grad_logits) + row * row_bytes;
      Run run{};
      if (!run_of(task, row, &run)) {
        std::memset(out, 0, static_cast<size_t>(row_bytes));
      } else if (task.dtype == DType::float64) {
        one_row(row, run, static_cast<const double*>(stats) + 2 * row, static_cast<const double*>(grad_loss) + row, out);
      } else {
        one_row(row, run, static_cast<const float*>(stats) + 2 * row, static_cast<const float*>(grad_loss) + row, out);
      }
    }
  });
}

}  // namespace dshc::cpu
