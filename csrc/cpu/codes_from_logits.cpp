#include "../core/codes_from_logits.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "first_row.h"
#include "float_rows.h"
#include "threads.h"

namespace dshc::cpu {
namespace {

// NaN ranks last, so that an unchecked one still gives a strict order.
template <class Real>
bool better(const Real* logits, int64_t a, int64_t b) {
  const Real x = logits[a], y = logits[b];
  if (x > y) return true;
  if (x < y) return false;
  const bool x_nan = x != x, y_nan = y != y;
  if (x_nan != y_nan) return y_nan;
  return a < b;
}

// The k best sub-classes of a row, best first.
template <class Real>
void best_subclasses(const Real* logits, int64_t n, int64_t k, std::vector<int64_t>& best) {
  best.clear();
  if (k == 1) {
    const Real largest = max_value(logits, n);
    int64_t at = 0;
    while (at < n && logits[at] != largest) ++at;
    best.push_back(at < n ? at : 0);  // a row of NaNs only, unchecked
    return;
  }
  constexpr int64_t kInsertion = 16;  // up to here a sorted list with insertion beats selecting in an index array
  if (k > kInsertion) {
    best.resize(static_cast<size_t>(n));
    std::iota(best.begin(), best.end(), int64_t{0});
    const auto order = [&](int64_t a, int64_t b) { return better(logits, a, b); };
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), order);
    best.resize(static_cast<size_t>(k));
    std::sort(best.begin(), best.end(), order);
    return;
  }
  for (int64_t j = 0; j < n; ++j) {
    const bool full = static_cast<int64_t>(best.size()) == k;
    if (full && !better(logits, j, best.back())) continue;
    if (full) best.pop_back();
    size_t at = best.size();
    while (at > 0 && better(logits, j, best[at - 1])) --at;
    best.insert(best.begin() + static_cast<int64_t>(at), j);
  }
}

// Sign of the (weighted) sum of +-1 bits, bit by bit. Sums run in rank order, so that rounding is the same everywhere.
template <class Real>
void vote(const Real* logits, const std::vector<int64_t>& best, const uint8_t* codebook, int64_t n_bytes,
          Weighting weighting, std::vector<Real>& weights, uint8_t* code) {
  const uint8_t* first = codebook + best[0] * n_bytes;
  if (best.size() <= 1) {
    std::memcpy(code, first, static_cast<size_t>(n_bytes));
    return;
  }
  weights.assign(best.size(), Real{1});
  if (weighting == Weighting::probability) {
    // Relative to the largest logit: a common factor does not change a sign.
    const Real top = logits[best[0]];
    for (size_t i = 0; i < best.size(); ++i) {
      if (logits[best[i]] != top) weights[i] = std::exp(logits[best[i]] - top);
    }
  }
  for (int64_t byte = 0; byte < n_bytes; ++byte) {
    uint8_t result = 0;
    for (int bit = 0; bit < 8; ++bit) {
      Real sum = 0;  // of at most n_subclasses ones: exact in float up to 2^24
      for (size_t i = 0; i < best.size(); ++i) {
        const bool set = codebook[best[i] * n_bytes + byte] >> bit & 1;
        sum += set ? weights[i] : -weights[i];
      }
      const bool one = sum > 0 || (sum == 0 && (first[byte] >> bit & 1));
      result = static_cast<uint8_t>(result | (one ? 1u << bit : 0u));
    }
    code[byte] = result;
  }
}

}  // namespace

Status codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                         int64_t n_bytes, int64_t k, Weighting weighting, uint8_t* codes, bool check, int n_threads) {
  FirstRow first_nan, first_infinity;
  const auto one_row = [&](const auto* values, int64_t row, std::vector<int64_t>& best, auto& weights) {
    if (check && any_nan(values, n_subclasses)) first_nan.note(row);
    best_subclasses(values, n_subclasses, k, best);
    if (check && weighting == Weighting::probability && values[best[0]] == std::numeric_limits<float>::infinity()) {
      first_infinity.note(row);
    }
    vote(values, best, codebook, n_bytes, weighting, weights, codes + row * n_bytes);
  };
  const int64_t n_tasks = task_count(n, static_cast<double>(n_subclasses) * 0.5 + static_cast<double>(8 * n_bytes * k), n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    std::vector<float> buffer, weights;
    std::vector<double> wide_weights;
    std::vector<int64_t> best;
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      if (dtype == DType::float64) {
        one_row(static_cast<const double*>(logits) + row * n_subclasses, row, best, wide_weights);
      } else {
        one_row(float_row(logits, dtype, row, n_subclasses, buffer), row, best, weights);
      }
    }
  });
  if (first_nan.found()) return first_nan.as(Fault::nan_value);
  if (first_infinity.found()) return first_infinity.as(Fault::plus_infinity);
  return {};
}

}  // namespace dshc::cpu
