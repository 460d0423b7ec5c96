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

// The signs of sums; of 0 the bit of `first`. A branch on a sign is guessed wrong every other time: 0 is asked for apart.
void write_signs(const float* sums, const uint8_t* first, int64_t n_bytes, uint8_t* code) {
  level().bits->pack_above(sums, nullptr, 8 * n_bytes, code);
  int any_zero = 0;
  for (int64_t j = 0; j < 8 * n_bytes; ++j) any_zero |= sums[j] == 0;
  if (!any_zero) return;
  for (int64_t j = 0; j < 8 * n_bytes; ++j) {
    if (sums[j] == 0) code[j / 8] = static_cast<uint8_t>(code[j / 8] | (first[j / 8] & 1 << (j % 8)));
  }
}

void write_signs(const double* sums, const uint8_t* first, int64_t n_bytes, uint8_t* code) {
  pack_row(8 * n_bytes, code, [&](int64_t j) {
    const int above = sums[j] > 0, zero = sums[j] == 0;
    return above | (zero & first[j / 8] >> (j % 8));
  });
}

// Sign of the weighted sum of +-1 bits, bit by bit; a sum of 0 has the bit of the row `best`. Sums run in the order of `rows`, or
// of the codebook where it is null, so that rounding is the same on every level.
template <class Real>
void weighted_vote(const int64_t* rows, int64_t best, Buffers<Real>& buffers, const uint8_t* codebook, int64_t n_bytes,
                   uint8_t* code) {
  buffers.sums.resize(static_cast<size_t>(8 * n_bytes));
  signed_sums(codebook, n_bytes, rows, buffers.weights, buffers.sums.data());
  write_signs(buffers.sums.data(), codebook + best * n_bytes, n_bytes, code);
}

// exp(logit - top), 1 for the largest itself; `out` may be `logits`. A common factor does not change a sign.
template <class Real>
void weigh(const FloatKernels& kernels, const Real* logits, int64_t n, Real top, Real* out) {
  if (top - top == 0) return scaled_exp(kernels, logits, n, top, Real{1}, out);
  for (int64_t i = 0; i < n; ++i) out[i] = logits[i] == top ? Real{1} : std::exp(logits[i] - top);  // not of inf - inf
}

// Of some sub-classes, the best first; or of all of them, in their order.
template <class Real>
void weigh(const Real* logits, const std::vector<int64_t>& best, Buffers<Real>& buffers) {
  std::vector<Real>& weights = buffers.weights;
  weights.resize(best.size());
  for (size_t i = 0; i < best.size(); ++i) weights[i] = logits[best[i]];
  weigh(buffers.kernels, weights.data(), static_cast<int64_t>(weights.size()), weights[0], weights.data());
}
template <class Real>
void weigh_all(const Real* logits, int64_t n, int64_t best, Buffers<Real>& buffers) {
  buffers.weights.resize(static_cast<size_t>(n));
  weigh(buffers.kernels, logits, n, logits[best], buffers.weights.data());
}

// All sub-classes of several rows of float: signs of a few codes, which fit the first-level cache, serve all rows.
class WeightedRows {
 public:
  static constexpr int64_t kMostWeights = 1 << 18, kMostSigns = 4096;

  WeightedRows(const uint8_t* codebook, int64_t n_subclasses, int64_t n_bytes)
      : codebook_(codebook),
        n_subclasses_(n_subclasses),
        n_bytes_(n_bytes),
        room_(std::clamp<int64_t>(kMostWeights / n_subclasses, 4, 64)),
        n_together_(std::max<int64_t>(kMostSigns / (8 * n_bytes), 4)),
        weights_(static_cast<size_t>(room_ * n_subclasses)),
        sums_(static_cast<size_t>(room_ * 8 * n_bytes)),
        signs_(static_cast<size_t>(n_together_ * 8 * n_bytes)),
        best_(static_cast<size_t>(room_)) {}

  int64_t room() const { return room_; }

  // The `at`-th of these rows, whose best sub-class is known.
  void take(const FloatKernels& kernels, int64_t at, const float* logits, int64_t best) {
    weigh(kernels, logits, n_subclasses_, logits[best], weights_.data() + at * n_subclasses_);
    best_[static_cast<size_t>(at)] = best;
  }

  void write(int64_t n_rows, uint8_t* codes) {
    const BitKernels& bits = *level().bits;
    const int64_t n_bits = 8 * n_bytes_;
    std::fill(sums_.begin(), sums_.begin() + n_rows * n_bits, 0.0f);
    for (int64_t first = 0; first < n_subclasses_; first += n_together_) {
      const int64_t n = std::min(n_together_, n_subclasses_ - first);
      bits.signs_of(codebook_ + first * n_bytes_, n * n_bytes_, signs_.data());
      bits.add_signed(signs_.data(), n, n_bits, weights_.data() + first, n_subclasses_, n_rows, sums_.data());
    }
    for (int64_t row = 0; row < n_rows; ++row) {
      write_signs(sums_.data() + row * n_bits, codebook_ + best_[static_cast<size_t>(row)] * n_bytes_, n_bytes_,
                  codes + row * n_bytes_);
    }
  }

 private:
  const uint8_t* codebook_;
  int64_t n_subclasses_, n_bytes_, room_, n_together_;
  std::vector<float> weights_, sums_, signs_;
  std::vector<int64_t> best_;
};

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

struct Task {
  const void* logits;  // [n, n_subclasses]
  DType dtype;
  int64_t n, n_subclasses;
  const uint8_t* codebook;
  int64_t n_bytes, k;
  Weighting weighting;
  const int64_t* subclasses;
  uint8_t* codes;
  bool check;
  FirstFault nan, infinity;

  bool weighted() const { return weighting == Weighting::probability; }
  // Where all sub-classes are weighed nobody need put them in order.
  bool weighs_all() const { return weighted() && k == n_subclasses && k > 1 && !subclasses; }
  double cost() const { return (weighted() ? 0.2 : 8.0) * static_cast<double>(n_bytes) * static_cast<double>(k); }

  // Its k best, the best first, in buffers.best.
  template <class Real>
  void rank(int64_t row, const Real* values, int64_t n_best, Buffers<Real>& buffers) {
    if (best_subclasses(values, n_subclasses, n_best, buffers) && check) nan.note(row);
    const bool infinite = values[buffers.best[0]] == std::numeric_limits<float>::infinity();
    if (check && weighted() && infinite) infinity.note(row);
  }
};

// The rows [begin, end), of float.
void weigh_rows(Task& task, int64_t begin, int64_t end) {
  Buffers<float> buffers;
  WeightedRows rows(task.codebook, task.n_subclasses, task.n_bytes);
  for (int64_t first = begin; first < end; first += rows.room()) {
    const int64_t n = std::min(rows.room(), end - first);
    for (int64_t at = 0; at < n; ++at) {
      const float* values =
          float_row(buffers.kernels, task.logits, task.dtype, first + at, task.n_subclasses, buffers.row);
      task.rank(first + at, values, 1, buffers);
      rows.take(buffers.kernels, at, values, buffers.best[0]);
    }
    rows.write(n, task.codes + first * task.n_bytes);
  }
}

template <class Real>
void write_row(Task& task, int64_t row, const Real* values, Buffers<Real>& buffers) {
  std::vector<int64_t>& best = buffers.best;
  uint8_t* code = task.codes + row * task.n_bytes;
  task.rank(row, values, task.weighs_all() ? 1 : task.k, buffers);
  if (task.weighs_all()) {
    weigh_all(values, task.n_subclasses, best[0], buffers);
    weighted_vote(nullptr, best[0], buffers, task.codebook, task.n_bytes, code);
    return;
  }
  if (task.weighted()) weigh(values, best, buffers);
  for (int64_t i = 0; task.subclasses && i < task.k; ++i) {
    best[static_cast<size_t>(i)] = task.subclasses[row * task.n_subclasses + best[static_cast<size_t>(i)]];
  }
  if (task.k == 1) {
    std::memcpy(code, task.codebook + best[0] * task.n_bytes, static_cast<size_t>(task.n_bytes));
  } else if (task.weighted()) {
    weighted_vote(best.data(), best[0], buffers, task.codebook, task.n_bytes, code);
  } else {
    vote(best, task.codebook, task.n_bytes, code);
  }
}

}  // namespace

Status codes_from_logits(const void* logits, DType dtype, int64_t n, int64_t n_subclasses, const uint8_t* codebook,
                         int64_t n_bytes, int64_t k, Weighting weighting, const int64_t* subclasses, uint8_t* codes,
                         bool check, int n_threads) {
  const Call call;
  Task task{logits, dtype, n, n_subclasses, codebook, n_bytes, k, weighting, subclasses, codes, check, {}, {}};
  if (task.weighs_all() && dtype != DType::float64) {
    const int64_t n_tasks = task_count(n, 0.5 * static_cast<double>(n_subclasses) + task.cost(), n_threads);
    parallel_for(n_tasks, n_threads, [&](int64_t part) { weigh_rows(task, n * part / n_tasks, n * (part + 1) / n_tasks); });
  } else {
    over_rows(logits, dtype, n, n_subclasses, task.cost(), n_threads,
              [&](int64_t row, const auto* values, auto& buffers) { write_row(task, row, values, buffers); });
  }
  if (task.nan.found()) return task.nan.as(Fault::nan_value);
  if (task.infinity.found()) return task.infinity.as(Fault::plus_infinity);
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
