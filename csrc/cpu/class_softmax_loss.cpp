// Forward: largest logit, sum of exp(logit - largest), then the loss from the few logits of the row's own class. The row is
// read from memory once and from cache after that. Backward: one pass, reading logits and writing the gradient.
//
// What is kept for the backward pass is (largest, sum) and not their log-sum-exp: for logits near 1e4 the rounding of a
// float32 log-sum-exp alone would put an error of 5e-4 on every probability.
#include "../core/class_softmax_loss.h"

#include <algorithm>
#include <cstring>

#include "float_rows.h"
#include "threads.h"

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

// Largest, sum of exponentials, loss.
template <class Real>
void forward_row(const ClassSoftmax& task, const Real* logits, Run run, Real* stats, Real* loss) {
  const Real largest = max_value(logits, task.n_subclasses);
  const Real sum = sum_exp(logits, task.n_subclasses, largest);
  stats[0] = largest;
  stats[1] = sum;
  const double log_sum = std::log(static_cast<double>(sum));
  double minus_log_p = 0.0;
  for (int64_t j = run.first; j < run.last; ++j) {
    minus_log_p += log_sum + (static_cast<double>(largest) - static_cast<double>(logits[j]));
  }
  *loss = static_cast<Real>(weight_of(task, run.last - run.first) * minus_log_p);
}

uint16_t to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);  // round to nearest, ties to even
}

uint16_t to_float16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00);   // NaN
  if (bits >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // rounds past the largest half
  if (bits < 0x38800000) {
    // Subnormal half: adding 0.5 lets the float addition do the rounding to multiples of 2^-24.
    float shifted;
    std::memcpy(&shifted, &bits, 4);
    shifted += 0.5f;
    std::memcpy(&bits, &shifted, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3F000000));
  }
  bits += 0xC8000FFF + (bits >> 13 & 1);  // re-bias the exponent by -112, round to nearest, ties to even
  return static_cast<uint16_t>(sign | bits >> 13);
}

void write_row(DType dtype, const float* values, int64_t n, char* out) {
  if (dtype == DType::float32) {
    std::memcpy(out, values, static_cast<size_t>(n) * 4);
    return;
  }
  auto* halves = reinterpret_cast<uint16_t*>(out);
  for (int64_t j = 0; j < n; ++j) halves[j] = dtype == DType::float16 ? to_float16(values[j]) : to_bfloat16(values[j]);
}

// scale * exp(logit - shift) - (g * weight inside the run), in float or double.
void gradient_row(const float* logits, int64_t n, float shift, float scale, float* out) {
  simd().scaled_exp(logits, n, shift, scale, out);
}
void gradient_row(const double* logits, int64_t n, double shift, double scale, double* out) {
  for (int64_t j = 0; j < n; ++j) out[j] = scale * std::exp(logits[j] - shift);
}

template <class Real>
void backward_row(const ClassSoftmax& task, const Real* logits, Run run, const Real* stats, double grad, Real* out) {
  const double weight = weight_of(task, run.last - run.first);
  const double target_sum = weight * static_cast<double>(run.last - run.first);
  const Real scale = static_cast<Real>(grad * target_sum / static_cast<double>(stats[1]));
  gradient_row(logits, task.n_subclasses, stats[0], scale, out);
  const Real pull = static_cast<Real>(grad * weight);
  for (int64_t j = run.first; j < run.last; ++j) out[j] -= pull;
}

int64_t tasks_for(const ClassSoftmax& task, int n_threads) {
  return task_count(task.n, 0.5 * static_cast<double>(task.n_subclasses) + 50.0, n_threads);
}

template <class Work>
void over_rows(int64_t n, int64_t n_tasks, int n_threads, Work work) {
  parallel_for(n_tasks, n_threads, [&](int64_t t) { work(n * t / n_tasks, n * (t + 1) / n_tasks); });
}

}  // namespace

Status class_softmax_loss(const ClassSoftmax& task, void* loss, void* stats, bool check, int n_threads) {
  for (int64_t row = 0; check && row < task.n; ++row) {
    const int64_t label = task.labels[row];
    if (label != task.ignore_index && (label < 0 || label >= task.n_classes)) {
      return {Fault::label_out_of_range, row, label};
    }
  }
  over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer;
    for (int64_t row = begin; row < end; ++row) {
      Run run{};
      const bool counts = run_of(task, row, &run);
      if (task.dtype == DType::float64) {
        auto *row_loss = static_cast<double*>(loss) + row, *row_stats = static_cast<double*>(stats) + 2 * row;
        *row_loss = row_stats[0] = row_stats[1] = 0.0;
        const auto* logits = static_cast<const double*>(task.logits) + row * task.n_subclasses;
        if (counts) forward_row(task, logits, run, row_stats, row_loss);
      } else {
        auto *row_loss = static_cast<float*>(loss) + row, *row_stats = static_cast<float*>(stats) + 2 * row;
        *row_loss = row_stats[0] = row_stats[1] = 0.0f;
        if (counts) {
          forward_row(task, float_row(task.logits, task.dtype, row, task.n_subclasses, buffer), run, row_stats, row_loss);
        }
      }
    }
  });
  return {};
}

void class_softmax_loss_backward(const ClassSoftmax& task, const void* stats, const void* grad_loss, void* grad_logits,
                                 int n_threads) {
  const int64_t width = task.n_subclasses, row_bytes = width * size_of(task.dtype);
  over_rows(task.n, tasks_for(task, n_threads), n_threads, [&](int64_t begin, int64_t end) {
    std::vector<float> buffer, gradient(task.dtype == DType::float64 ? 0 : static_cast<size_t>(width));
    for (int64_t row = begin; row < end; ++row) {
      char* out = static_cast<char*>(grad_logits) + row * row_bytes;
      Run run{};
      if (!run_of(task, row, &run)) {
        std::memset(out, 0, static_cast<size_t>(row_bytes));
      } else if (task.dtype == DType::float64) {
        backward_row(task, static_cast<const double*>(task.logits) + row * width, run,
                     static_cast<const double*>(stats) + 2 * row, static_cast<const double*>(grad_loss)[row],
                     reinterpret_cast<double*>(out));
      } else {
        const float* logits = float_row(task.logits, task.dtype, row, width, buffer);
        float* target = task.dtype == DType::float32 ? reinterpret_cast<float*>(out) : gradient.data();
        backward_row(task, logits, run, static_cast<const float*>(stats) + 2 * row,
                     static_cast<double>(static_cast<const float*>(grad_loss)[row]), target);
        if (task.dtype != DType::float32) write_row(task.dtype, target, width, out);
      }
    }
  });
}

}  // namespace dshc::cpu
