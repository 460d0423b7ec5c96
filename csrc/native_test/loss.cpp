// class_softmax_loss and its gradient against the formula in double.
#include "../core/class_softmax_loss.h"

#include <vector>

#include "typed.h"

namespace dshc::test {
namespace {

constexpr int64_t kIgnored = -7;

struct LossCase {
  DType dtype;
  int64_t n, width, n_classes;
  double weight;
  Typed logits;
  Exact<int64_t> labels, offsets;

  LossCase(Random& random, DType dtype, int64_t n, const std::vector<int64_t>& sizes, double weight, double shift)
      : dtype(dtype),
        n(n),
        width(0),
        n_classes(static_cast<int64_t>(sizes.size())),
        weight(weight),
        logits(dtype, 0),
        labels(n),
        offsets(n_classes + 1) {
    for (int64_t c = 0; c < n_classes; ++c) offsets[c + 1] = width += sizes[static_cast<size_t>(c)];
    logits = Typed(dtype, n * width);
    for (int64_t row = 0; row < n; ++row) {
      labels[row] = random.below(n_classes);
      for (int64_t j = 0; j < width; ++j) {
        const bool own = offsets[labels[row]] <= j && j < offsets[labels[row] + 1];
        const bool impossible = !own && random.below(15) == 0;  // probability 0 outside the row's class
        logits.set_value(row * width + j, impossible ? -INFINITY : shift + random.uniform(-8, 8));
      }
      if (random.below(6) == 0) {
        labels[row] = kIgnored;
        logits.set_value(row * width, NAN);  // an ignored row may hold anything
      }
    }
    g_progress.example = "dtype " + std::to_string(static_cast<int>(dtype)) + ", " + std::to_string(n) + " x " +
                         std::to_string(width) + ", weight " + text(weight) + ", shift " + text(shift);
  }

  ClassSoftmax task() const {
    return {logits.data(), dtype, labels.data(), offsets.data(), n, width, n_classes, weight, kIgnored, 0, width};
  }

  bool counts(int64_t row) const { return labels[row] >= 0 && labels[row] < n_classes; }
};

// Weighted targets, log-sum-exp: the formula, one row at a time.
struct Row {
  double largest = -INFINITY, sum = 0.0, loss = 0.0, target_sum = 0.0;
  std::vector<double> target, probability;

  Row(const LossCase& c, int64_t row) {
    const auto at = [&](int64_t j) { return c.logits.value(row * c.width + j); };
    const int64_t first = c.offsets[c.labels[row]], last = c.offsets[c.labels[row] + 1];
    for (int64_t j = 0; j < c.width; ++j) largest = std::max(largest, at(j));
    for (int64_t j = 0; j < c.width; ++j) sum += std::exp(at(j) - largest);
    for (int64_t j = 0; j < c.width; ++j) {
      const bool own = first <= j && j < last;
      target.push_back(!own ? 0.0 : c.weight > 0 ? c.weight : 1.0 / static_cast<double>(last - first));
      probability.push_back(std::exp(at(j) - largest) / sum);
      target_sum += target.back();
      if (own) loss += target.back() * (std::log(sum) + (largest - at(j)));
    }
  }
};

// Loss and gradient in one pass: to the last bit what they are one after the other.
template <class Real>
void check_together(const LossCase& c, const Exact<Real>& loss, const Exact<Real>& stats, int n_threads) {
  double sum = 0.0, n_kept = 0.0;
  for (int64_t row = 0; row < c.n; ++row) {
    sum += static_cast<double>(loss[row]);
    n_kept += c.labels[row] != kIgnored;
  }
  for (const bool mean : {false, true}) {
    Exact<Real> reduced(1), alone(1), together_stats(2 * c.n), grad_loss(c.n);
    for (int64_t row = 0; row < c.n; ++row) grad_loss[row] = Real{1} / (mean ? static_cast<Real>(n_kept) : Real{1});
    Typed gradient(c.dtype, c.n * c.width), wanted(c.dtype, c.n * c.width);
    cpu::class_softmax_loss_backward(c.task(), stats.data(), grad_loss.data(), wanted.data(), n_threads);
    cpu::class_softmax_loss_and_gradient(c.task(), mean, reduced.data(), together_stats.data(), gradient.data(), false,
                                         n_threads);
    cpu::class_softmax_loss_and_gradient(c.task(), mean, alone.data(), together_stats.data(), nullptr, false, n_threads);
    const Real total = static_cast<Real>(mean ? sum / n_kept : sum);
    expect_same("class_softmax_loss_and_gradient", 0, std::isnan(reduced[0]), std::isnan(total));
    if (!std::isnan(total)) expect_same("class_softmax_loss_and_gradient", 0, reduced[0], total);
    expect_same_bits("class_softmax_loss_and_gradient alone", alone, reduced);
    expect_same_bits("class_softmax_loss_and_gradient stats", together_stats, stats);
    for (int64_t i = 0; i < gradient.size(); ++i) {
      expect_same("class_softmax_loss_and_gradient", i, gradient.bits(i), wanted.bits(i));
    }
    Typed over(c.dtype, c.n * c.width);
    for (int64_t i = 0; i < over.size(); ++i) over.set_value(i, c.logits.value(i));
    ClassSoftmax task = c.task();
    task.logits = over.data();
    cpu::class_softmax_loss_and_gradient(task, mean, alone.data(), together_stats.data(), over.data(), false, n_threads);
    for (int64_t i = 0; i < over.size(); ++i) {
      expect_same("class_softmax_loss_and_gradient over the logits", i, over.bits(i), wanted.bits(i));
    }
    count("class_softmax_loss_and_gradient", c.n);
  }
}

template <class Real>
void check_in(const LossCase& c) {
  const double epsilon = c.dtype == DType::float64 ? 1e-13 : 2e-6;
  Exact<Real> grad_loss(c.n);
  for (int64_t row = 0; row < c.n; ++row) grad_loss[row] = static_cast<Real>(0.25 * static_cast<double>(row % 5 - 2));
  Exact<Real> first_loss;
  Typed first_gradient(c.dtype, 0);
  on_every_path([&](int n_threads) {
    Exact<Real> loss(c.n), stats(2 * c.n);
    Typed gradient(c.dtype, c.n * c.width);
    cpu::class_softmax_loss(c.task(), nullptr, loss.data(), stats.data(), false, n_threads);
    cpu::class_softmax_loss_backward(c.task(), stats.data(), grad_loss.data(), gradient.data(), n_threads);
    for (int64_t row = 0; row < c.n; ++row) {
      if (!c.counts(row)) {
        expect_same("class_softmax_loss", row, static_cast<double>(loss[row]), 0.0);
        for (int64_t j = 0; j < c.width; ++j) {
          expect_same("class_softmax_loss backward", row * c.width + j, gradient.bits(row * c.width + j), uint64_t{0});
        }
        continue;
      }
      const Row wanted(c, row);
      expect_close("class_softmax_loss", row, loss[row], wanted.loss, epsilon * (1 + wanted.target_sum + wanted.loss));
      expect_same("class_softmax_loss stats", row, static_cast<double>(stats[2 * row]), wanted.largest);
      expect_close("class_softmax_loss stats", row, stats[2 * row + 1], wanted.sum, epsilon * wanted.sum);
      const double g = static_cast<double>(grad_loss[row]);
      for (int64_t j = 0; j < c.width; ++j) {
        const size_t at = static_cast<size_t>(j);
        const double value = g * (wanted.target_sum * wanted.probability[at] - wanted.target[at]);
        // Half a unit of the last place of the 16-bit formats, or half their smallest number.
        double rounding = 0.0;
        if (c.dtype == DType::float16) rounding = std::fabs(value) * 0x1p-11 + 0x1p-25;
        if (c.dtype == DType::bfloat16) rounding = std::fabs(value) * 0x1p-8;
        const double scale = std::fabs(g) * (wanted.target_sum * wanted.probability[at] + wanted.target[at]);
        expect_close("class_softmax_loss backward", row * c.width + j, gradient.value(row * c.width + j), value,
                     1.01 * rounding + epsilon * scale + 1e-37);
      }
    }
    count("class_softmax_loss", c.n);
    count("class_softmax_loss backward", c.n * c.width);
    check_together(c, loss, stats, n_threads);
    if (n_threads > 1) {  // rows do not depend on each other, so threads change no bit
      expect_same_bits("class_softmax_loss", loss, first_loss);
      for (int64_t i = 0; i < gradient.size(); ++i) {
        expect_same("class_softmax_loss backward", i, gradient.bits(i), first_gradient.bits(i));
      }
    }
    first_loss = std::move(loss);
    first_gradient = std::move(gradient);
  });
}

void check(const LossCase& c) { c.dtype == DType::float64 ? check_in<double>(c) : check_in<float>(c); }

void check_labels(Random& random) {
  for (const int64_t bad : {int64_t{-1}, int64_t{3}, int64_t{1} << 40}) {
    LossCase c(random, DType::float32, 50, {2, 3, 4}, 0.0, 0.0);
    c.labels[17] = c.labels[40] = bad;
    on_every_path([&](int n_threads) {
      Exact<float> loss(c.n), stats(2 * c.n);
      expect_status("class_softmax_loss", cpu::class_softmax_loss(c.task(), nullptr, loss.data(), stats.data(), true, n_threads),
                    Fault::label_out_of_range, 17);
      expect_status("class_softmax_loss_and_gradient",
                    cpu::class_softmax_loss_and_gradient(c.task(), true, loss.data(), stats.data(), nullptr, true, n_threads),
                    Fault::label_out_of_range, 17);
    });
    check(c);  // unchecked, such a row counts nowhere
  }
}

}  // namespace

void test_loss() {
  Random random(6);
  for (const DType dtype : kFloats) {
    for (const double weight : {0.0, 0.5}) {
      for (const double shift : {0.0, 10000.0}) {
        check(LossCase(random, dtype, 0, {2}, weight, shift));
        check(LossCase(random, dtype, 1, {1}, weight, shift));
        check(LossCase(random, dtype, 3, {1, 4}, weight, shift));
        check(LossCase(random, dtype, 6, {10, 10, 11}, weight, shift));
        check(LossCase(random, dtype, 33, {17, 1, 33, 14}, weight, shift));
        check(LossCase(random, dtype, 120, {65, 64, 63, 200}, weight, shift));
      }
    }
  }
  check_labels(random);
  finish_group("loss");
}

}  // namespace dshc::test
