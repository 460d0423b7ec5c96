// The k largest logits of a row, block by block: the largest of each of 64 buckets of columns, of which the k-th largest is a
// bound that k logits reach; then, if any can enter the list of the k best so far, those that reach the bound are selected
// from the block, which lies in the first-level cache. So a row is read from memory once, and hardly more than k logits of
// its first block and very few of the others are looked at. Votes are counted on 64 bits of a code at once.
#include "../core/codes_from_logits.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "call/call.h"
#include "call/threads.h"
#include "logits/first_fault.h"
#include "logits/float_rows.h"
#include "logits/pack_bits.h"

namespace dshc::cpu {
namespace {

constexpr int64_t kInsertion = 16;  // up to here a sorted list with insertion beats selecting in an array
constexpr int64_t kBlock = 4096;    // columns: half of a first-level cache

template <class Real>
struct Buffers {
  const FloatKernels& kernels = *level().floats;
  std::vector<float> row;
  std::vector<int64_t> best;
  std::vector<uint32_t> positions = std::vector<uint32_t>(static_cast<size_t>(kBlock));
  std::vector<Real> weights, sums;
};

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

template <class Real>
void insert(const Real* logits, int64_t j, int64_t k, std::vector<int64_t>& best) {
  const bool full = static_cast<int64_t>(best.size()) == k;
  if (full && !better(logits, j, best.back())) return;
  if (!full) best.push_back(j);
  size_t at = best.size() - 1;
  for (; at > 0 && better(logits, j, best[at - 1]); --at) best[at] = best[at - 1];
  best[at] = j;
}

// The k best sub-classes of a row, best first. True if the row has a NaN.
template <class Real>
bool best_subclasses(const Real* logits, int64_t n, int64_t k, Buffers<Real>& buffers) {
  std::vector<int64_t>& best = buffers.best;
  best.clear();
  Real bound = 0;
  bool nan = false;
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t size = std::min(kBlock, n - first);
    if (first == 0) {
      nan = bound_of_top(buffers.kernels, logits, size, k, &bound);
    } else {
      Real largest;
      nan |= bound_of_top(buffers.kernels, logits + first, size, 1, &largest);
      if (k <= kInsertion && static_cast<int64_t>(best.size()) == k) {
        bound = std::max(bound, logits[best.back()]);
        if (largest <= logits[best.back()]) continue;  // equal ones come later
      }
    }
    const int64_t found = select_at_least(buffers.kernels, logits + first, size, bound, buffers.positions.data());
    for (int64_t i = 0; i < found; ++i) {
      const int64_t j = first + buffers.positions[static_cast<size_t>(i)];
      if (k <= kInsertion) {
        insert(logits, j, k, best);
      } else {
        best.push_back(j);
      }
    }
  }
  const bool too_few = static_cast<int64_t>(best.size()) < k;  // of NaNs, unchecked
  if (too_few) {
    best.resize(static_cast<size_t>(n));
    std::iota(best.begin(), best.end(), int64_t{0});
  }
  if (k > kInsertion || too_few) {
    const auto order = [&](int64_t a, int64_t b) { return better(logits, a, b); };
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), order);
    best.resize(static_cast<size_t>(k));
    std::sort(best.begin(), best.end(), order);
  }
  return nan;
}

uint64_t word_of(const uint8_t* bytes, int64_t n_bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, static_cast<size_t>(std::min<int64_t>(n_bytes, 8)));
  return word;
}

// Bit by bit: whether more than half of the rows have it set; where half have, as in the first row. Counters of 64 bits at
// once lie across words: bit b of counts[p] is digit p of bit b's count.
void vote(const std::vector<int64_t>& rows, const uint8_t* codebook, int64_t n_bytes, uint8_t* code) {
  const auto k = static_cast<uint64_t>(rows.size());
  const uint64_t half = k / 2;
  int n_digits = 1;
  while (k >> n_digits) ++n_digits;
  for (int64_t at = 0; at < n_bytes; at += 8) {
    uint64_t counts[64];
    std::fill(counts, counts + n_digits, uint64_t{0});
    for (const int64_t row : rows) {
      uint64_t carry = word_of(codebook + row * n_bytes + at, n_bytes - at);
      for (int digit = 0; carry; ++digit) {
        const uint64_t sum = counts[digit] ^ carry;
        carry &= counts[digit];
        counts[digit] = sum;
      }
    }
    uint64_t more = 0, equal = ~uint64_t{0};
    for (int digit = n_digits - 1; digit >= 0; --digit) {
      if (half >> digit & 1) {
        equal &= counts[digit];
      } else {
        more |= equal & counts[digit];
        equal &= ~counts[digit];
      }
    }
    if (k % 2 == 0) more |= equal & word_of(codebook + rows[0] * n_bytes + at, n_bytes - at);
    std::memcpy(code + at, &more, static_cast<size_t>(std::min<int64_t>(n_bytes - at, 8)));
  }
}

void signed_sums(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const std::vector<float>& weights,
                 float* sums) {
  level().bits->signed_sums(codebook, n_bytes, rows, weights.data(), static_cast<int64_t>(weights.size()), sums);
}

void signed_sums(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const std::vector<double>& weights,
                 double* sums) {
  const auto n_rows = static_cast<int64_t>(weights.size());
  std::fill(sums, sums + 8 * n_bytes, 0.0);
  for (int64_t i = 0; i < n_rows; ++i) {
    const uint8_t* code = codebook + (rows ? rows[i] : i) * n_bytes;
    const double both[2] = {-weights[static_cast<size_t>(i)], weights[static_cast<size_t>(i)]};
    for (int64_t j = 0; j < 8 * n_bytes; ++j) sums[j] += both[code[j / 8] >> (j % 8) & 1];
  }
}

// Sign of the weighted sum of +-1 bits, bit by bit; a sum of 0 has the bit of the row `best`. Sums run in the order of `rows`, or
// of the codebook where it is null, so that rounding is the same on every level.
template <class Real>
void weighted_vote(const int64_t* rows, int64_t best, Buffers<Real>& buffers, const uint8_t* codebook, int64_t n_bytes,
                   uint8_t* code) {
  buffers.sums.resize(static_cast<size_t>(8 * n_bytes));
  signed_sums(codebook, n_bytes, rows, buffers.weights, buffers.sums.data());
  const uint8_t* first = codebook + best * n_bytes;
  pack_row(8 * n_bytes, code, [&](int64_t j) {
    const Real sum = buffers.sums[static_cast<size_t>(j)];
    return sum > 0 || (sum == 0 && (first[j / 8] >> (j % 8) & 1));
  });
}

// Relative to the largest logit: a common factor does not change a sign.
template <class Real>
void weigh(const Real* logits, const std::vector<int64_t>& best, std::vector<Real>& weights) {
  const Real top = logits[best[0]];
  weights.assign(best.size(), Real{1});
  for (size_t i = 0; i < best.size(); ++i) {
    if (logits[best[i]] != top) weights[i] = std::exp(logits[best[i]] - top);
  }
}

// Of all sub-classes, in their order.
template <class Real>
void weigh_all(const Real* logits, int64_t n, int64_t best, std::vector<Real>& weights) {
  const Real top = logits[best];
  weights.assign(static_cast<size_t>(n), Real{1});
  for (int64_t i = 0; i < n; ++i) {
    if (logits[i] != top) weights[static_cast<size_t>(i)] = std::exp(logits[i] - top);
  }
}

// work(row, its logits in float or double, buffers) for every row.
template <class Work>
void over_rows(const void* logits, DType dtype, int64_t n, int64_t width, double cost, int n_threads, Work work) {
  const int64_t n_tasks = task_count(n, 0.5 * static_cast<double>(width) + cost, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    Buffers<float> buffers;
    Buffers<double> wide_buffers;
    for (int64_t row = n * task / n_tasks; row < n * (task + 1) / n_tasks; ++row) {
      if (dtype == DType::float64) {
        work(row, static_cast<const double*>(logits) + row * width, wide_buffers);
      } else {
        work(row, float_row(buffers.kernels, logits, dtype, row, width, buffers.row), buffers);
      }
    }
  });
}

}  // namespace

Status codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                         int64_t n_bytes, int64_t k, Weighting weighting, const int64_t* subclasses, uint8_t* codes,
                         bool check, int n_threads) {
  const Call call;
  FirstFault first_nan, first_infinity;
  const bool weighted = weighting == Weighting::probability;
  // Where all sub-classes are weighed nobody need put them in order.
  const bool all = weighted && k == n_subclasses && k > 1 && !subclasses;
  const double cost = (weighted ? 0.2 : 8.0) * static_cast<double>(n_bytes) * static_cast<double>(k);
  over_rows(logits, dtype, n, n_subclasses, cost, n_threads, [&](int64_t row, const auto* values, auto& buffers) {
    auto& best = buffers.best;
    if (best_subclasses(values, n_subclasses, all ? 1 : k, buffers) && check) first_nan.note(row);
    if (check && weighted && values[best[0]] == std::numeric_limits<float>::infinity()) first_infinity.note(row);
    uint8_t* code = codes + row * n_bytes;
    if (all) {
      weigh_all(values, n_subclasses, best[0], buffers.weights);
      weighted_vote(nullptr, best[0], buffers, codebook, n_bytes, code);
      return;
    }
    if (weighted) weigh(values, best, buffers.weights);
    for (int64_t i = 0; subclasses && i < k; ++i) {
      best[static_cast<size_t>(i)] = subclasses[row * n_subclasses + best[static_cast<size_t>(i)]];
    }
    if (k == 1) {
      std::memcpy(code, codebook + best[0] * n_bytes, static_cast<size_t>(n_bytes));
    } else if (weighted) {
      weighted_vote(best.data(), best[0], buffers, codebook, n_bytes, code);
    } else {
      vote(best, codebook, n_bytes, code);
    }
  });
  if (first_nan.found()) return first_nan.as(Fault::nan_value);
  if (first_infinity.found()) return first_infinity.as(Fault::plus_infinity);
  return {};
}

Status top_subclasses(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, int64_t k, int64_t* top, bool check,
                      int n_threads) {
  const Call call;
  FirstFault first_nan;
  over_rows(logits, dtype, n, n_subclasses, 0.0, n_threads, [&](int64_t row, const auto* values, auto& buffers) {
    if (best_subclasses(values, n_subclasses, k, buffers) && check) first_nan.note(row);
    std::copy(buffers.best.begin(), buffers.best.end(), top + row * k);
  });
  return first_nan.found() ? first_nan.as(Fault::nan_value) : Status{};
}

}  // namespace dshc::cpu
