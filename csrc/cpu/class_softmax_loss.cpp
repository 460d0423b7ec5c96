// Forward: largest logit, then the sum of exp(logit - largest) and the loss from the few logits of the row's own class. The row
// is read from memory once and from cache after that; 16-bit logits become float a block at a time, of long rows
// each time anew. Backward: one pass, reading logits and writing the gradient. Of rows that
// come in parts, each part's three numbers are merged with those of the parts before it, in double.
//
// Loss and gradient together: the exponentials of a row are kept, in the gradient's own place or, where that is of another
// type or the logits' too, in a row of their own, and multiplied once their sum is known. Against one after the other that is
// half of the exponentials (but for rows of more than kMostKept columns), one reading of the logits less, and the same
// gradient to the last bit.
//
// What is kept for the backward pass is (largest, sum) and not their log-sum-exp: for logits near 1e4 the rounding of a
// float32 log-sum-exp alone would put an error of 5e-4 on every probability.
#include "../core/class_softmax_loss.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "call/call.h"
#include "call/threads.h"
#include "logits/softmax_rows.h"

namespace dshc::cpu {
namespace {

// Columns of rows whose exponentials are kept: beyond, they would leave the second-level cache before they are read.
constexpr int64_t kMostKept = 1 << 16;

int64_t tasks_for(const ClassSoftmax& task, int n_threads) {
  return task_count(task.n, 0.5 * static_cast<double>(task.n_columns) + 50.0, n_threads);
}

template <class Work>
void over_rows(int64_t n, int64_t n_tasks, int n_threads, Work work) {
  parallel_for(n_tasks, n_threads, [&](int64_t t) { work(n * t / n_tasks, n * (t + 1) / n_tasks); });
}

// work(Real{}), of the loss's type.
template <class Work>
auto with_real(DType dtype, Work work) {
  return dtype == DType::float64 ? work(double{}) : work(float{});
}

Status check_labels(const ClassSoftmax& task) {
  for (int64_t row = 0; row < task.n; ++row) {
    const int64_t label = task.labels[row];
    if (label != task.ignore_index && (label < 0 || label >= task.n_classes)) {
      return {Fault::label_out_of_range, row, label};
    }
  }
  return {};
}

}  // namespace

Status class_softmax_loss(const ClassSoftmax& task, double* carry, void* loss, void* stats, bool check, int n_threads) {
  const Call call;
  const FloatKernels& kernels = *level().floats;
  if (const Status status = check ? check_labels(task) : Status{}; status.fault != Fault::none) return status;
  const bool last = task.first_column + task.n_columns == task.n_subclasses;
  with_real(task.dtype, [&](auto real) {
    using Real = decltype(real);
    auto *losses = static_cast<Real*>(loss), *all_stats = static_cast<Real*>(stats);
    over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
      std::vector<float> buffer;
      for (int64_t row = begin; row < end; ++row) {
        Run run{};
        if (run_of(task, row, &run)) {
          const Row<Real> logits(kernels, task, row, buffer);
          forward_row(kernels, task, logits, run, carry ? carry + 3 * row : nullptr, all_stats + 2 * row, losses + row);
        } else if (last) {
          losses[row] = all_stats[2 * row] = all_stats[2 * row + 1] = 0;
        }
      }
    });
  });
  return {};
}

void class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                 int n_threads) {
  const Call call;
  const FloatKernels& kernels = *level().floats;
  const int64_t row_bytes = task.n_columns * size_of(task.dtype);
  with_real(task.dtype, [&](auto real) {
    using Real = decltype(real);
    const auto *all_stats = static_cast<const Real*>(stats), *grads = static_cast<const Real*>(grad_loss);
    over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
      std::vector<float> buffer, block;
      for (int64_t row = begin; row < end; ++row) {
        char* out = static_cast<char*>(grad_logits) + row * row_bytes;
        Run run{};
        if (run_of(task, row, &run)) {
          const RowGradient<Real> gradient(kernels, task, run, all_stats + 2 * row, static_cast<double>(grads[row]), out);
          gradient.of_logits(Row<Real>(kernels, task, row, buffer), block);
        } else {
          std::memset(out, 0, static_cast<size_t>(row_bytes));
        }
      }
    });
  });
}

Status class_softmax_loss_and_gradient(const ClassSoftmax& task, bool mean, void* reduced, void* stats, void* grad_logits,
                                       bool check, int n_threads) {
  const Call call;
  const FloatKernels& kernels = *level().floats;
  if (const Status status = check ? check_labels(task) : Status{}; status.fault != Fault::none) return status;
  const int64_t width = task.n_columns, row_bytes = width * size_of(task.dtype);
  const int64_t n_kept = task.n - std::count(task.labels, task.labels + task.n, task.ignore_index);
  const bool keeps = grad_logits != nullptr && width <= kMostKept;
  const bool needs_room = keeps && (size_of(task.dtype) == 2 || grad_logits == task.logits);
  with_real(task.dtype, [&](auto real) {
    using Real = decltype(real);
    auto* all_stats = static_cast<Real*>(stats);
    const Real grad = mean ? Real{1} / static_cast<Real>(n_kept) : Real{1};  // as torch would divide
    std::vector<Real> losses(static_cast<size_t>(task.n));
    over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
      std::vector<float> buffer, block;
      std::vector<Real> room(static_cast<size_t>(needs_room ? width : 0));
      for (int64_t row = begin; row < end; ++row) {
        char* out = static_cast<char*>(grad_logits) + row * row_bytes;
        Real* row_stats = all_stats + 2 * row;
        Run run{};
        if (!run_of(task, row, &run)) {
          row_stats[0] = row_stats[1] = 0;
          if (grad_logits != nullptr) std::memset(out, 0, static_cast<size_t>(row_bytes));
          continue;
        }
        const Row<Real> logits(kernels, task, row, buffer);
        Real* exps = !keeps ? nullptr : needs_room ? room.data() : reinterpret_cast<Real*>(out);
        const bool kept =
            forward_row(kernels, task, logits, run, nullptr, row_stats, &losses[static_cast<size_t>(row)], exps);
        if (grad_logits == nullptr) continue;
        const RowGradient<Real> gradient(kernels, task, run, row_stats, static_cast<double>(grad), out);
        kept ? gradient.of_exps(exps) : gradient.of_logits(logits, block);
      }
    });
    double sum = 0.0;
    for (const Real loss : losses) sum += static_cast<double>(loss);
    *static_cast<Real*>(reduced) = static_cast<Real>(mean ? sum / static_cast<double>(n_kept) : sum);
  });
  return {};
}

}  // namespace dshc::cpu
