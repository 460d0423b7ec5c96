// codes_from_logits, center_codes_from_logits and multilabel_codes.
#include <numeric>
#include <vector>

#include "../core/center_codes_from_logits.h"
#include "../core/codes_from_logits.h"
#include "../core/multilabel_codes.h"
#include "typed.h"

namespace dshc::test {
namespace {

Exact<uint8_t> random_bytes(Random& random, int64_t n) {
  Exact<uint8_t> bytes(n);
  for (int64_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(random.next());
  return bytes;
}

// Coarse values, so that many are equal; some -inf.
Typed make_logits(Random& random, DType dtype, int64_t n, double step) {
  Typed logits(dtype, n);
  for (int64_t i = 0; i < n; ++i) {
    const double value = step > 0 ? step * static_cast<double>(random.below(9) - 4) : random.uniform(-6, 6);
    logits.set_value(i, random.below(20) ? value : -INFINITY);
  }
  return logits;
}

void set_example(DType dtype, int64_t n, int64_t width, const std::string& more) {
  g_progress.example = "dtype " + std::to_string(static_cast<int>(dtype)) + ", " + std::to_string(n) + " x " +
                       std::to_string(width) + ", " + more;
}

void check_codes(Random& random, DType dtype, int64_t n, int64_t width, int64_t n_bytes, int64_t k,
                 Weighting weighting) {
  set_example(dtype, n, width, "k " + std::to_string(k) + ", weighting " + std::to_string(static_cast<int>(weighting)));
  const Typed logits = make_logits(random, dtype, n * width, k % 2 ? 0.5 : 0.0);
  const Exact<uint8_t> codebook = random_bytes(random, width * n_bytes);
  std::vector<int> wanted(static_cast<size_t>(n * n_bytes * 8));  // -1: too close to call in the op's precision
  for (int64_t row = 0; row < n; ++row) {
    std::vector<int64_t> order(static_cast<size_t>(width));
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto at = [&](int64_t j) { return logits.value(row * width + j); };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return at(a) > at(b); });
    order.resize(static_cast<size_t>(k));
    for (int64_t bit = 0; bit < 8 * n_bytes; ++bit) {
      const auto bit_of = [&](int64_t j) { return codebook[j * n_bytes + bit / 8] >> (bit % 8) & 1; };
      double sum = 0.0, all = 0.0;
      for (const int64_t j : order) {
        const bool weighted = weighting == Weighting::probability && at(j) != at(order[0]);
        const double weight = weighted ? std::exp(at(j) - at(order[0])) : 1.0;
        sum += bit_of(j) ? weight : -weight;
        all += weight;
      }
      int& answer = wanted[static_cast<size_t>(row * n_bytes * 8 + bit)];
      answer = sum > 0 || (sum == 0 && bit_of(order[0]));
      if (weighting == Weighting::probability && k > 1 && std::fabs(sum) < 1e-5 * all) answer = -1;
    }
  }
  Exact<uint8_t> first;
  on_every_path([&](int n_threads) {
    Exact<uint8_t> codes(n * n_bytes);
    const Status status = cpu::codes_from_logits(logits.data(), dtype, n, width, codebook.data(), n_bytes, k, weighting,
                                                 nullptr, codes.data(), true, n_threads);
    expect_status("codes_from_logits", status, Fault::none, -1);
    for (int64_t i = 0; i < 8 * codes.size(); ++i) {
      const int bit = codes[i / 8] >> (i % 8) & 1, answer = wanted[static_cast<size_t>(i)];
      if (answer >= 0) expect_same("codes_from_logits", i, bit, answer);
    }
    count("codes_from_logits", 8 * codes.size());
    if (first.size() == codes.size()) expect_same_bits("codes_from_logits", codes, first);
    first = std::move(codes);
  });
}

void check_faults(Random& random, DType dtype) {
  const int64_t n = 40, width = 37, n_bytes = 5;
  set_example(dtype, n, width, "NaN or +inf in rows 11 and 30");
  const Exact<uint8_t> codebook = random_bytes(random, width * n_bytes);
  std::vector<int64_t> offsets = {0, 5, 20, width};
  const Exact<double> thresholds(width);
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    Typed logits = make_logits(random, dtype, n * width, 0.0);
    logits.set_value(11 * width + 36, bad);
    logits.set_value(30 * width, bad);
    for (const bool check : {true, false}) {
      on_every_path([&](int n_threads) {
        const Fault nan = check && std::isnan(bad) ? Fault::nan_value : Fault::none;
        const auto row = [](Fault fault) { return fault == Fault::none ? int64_t{-1} : int64_t{11}; };
        Exact<uint8_t> codes(n * n_bytes);
        for (const int64_t k : {1, 3, 20}) {
          for (const Weighting weighting : {Weighting::mean, Weighting::probability}) {
            Fault wanted = nan;
            if (check && std::isinf(bad) && weighting == Weighting::probability) wanted = Fault::plus_infinity;
            expect_status("codes_from_logits",
                          cpu::codes_from_logits(logits.data(), dtype, n, width, codebook.data(), n_bytes, k, weighting,
                                                 nullptr, codes.data(), check, n_threads),
                          wanted, row(wanted));
          }
        }
        expect_status("center_codes_from_logits",
                      cpu::center_codes_from_logits(logits.data(), dtype, n, width, offsets.data(), 3, codebook.data(),
                                                    n_bytes, codes.data(), check, n_threads),
                      nan, row(nan));
        expect_status("multilabel_codes",
                      cpu::multilabel_codes(logits.data(), dtype, n, width, thresholds.data(), codes.data(), check,
                                            n_threads),
                      nan, row(nan));
      });
    }
  }
}

void check_centers(Random& random, DType dtype, int64_t n, const std::vector<int64_t>& sizes, int64_t n_bytes) {
  Exact<int64_t> offsets(static_cast<int64_t>(sizes.size()) + 1);
  const auto n_classes = static_cast<int64_t>(sizes.size());
  for (int64_t c = 0; c < n_classes; ++c) offsets[c + 1] = offsets[c] + sizes[static_cast<size_t>(c)];
  const int64_t width = offsets[n_classes];
  set_example(dtype, n, width, std::to_string(n_classes) + " classes");
  Typed logits = make_logits(random, dtype, n * width, 0.0);
  const bool copied = n_classes > 1 && sizes[0] == sizes[1];
  for (int64_t i = 0; copied && i < n * sizes[0]; ++i) {
    // Equal log-sum-exps to the bit: the lower class wins.
    const int64_t at = i / sizes[0] * width + i % sizes[0];
    logits.set_bits(at + sizes[0], logits.bits(at));
  }
  const Exact<uint8_t> centers = random_bytes(random, n_classes * n_bytes);
  const double close = dtype == DType::float64 ? 1e-12 : 1e-5;
  std::vector<int64_t> best(static_cast<size_t>(n)), second(static_cast<size_t>(n));
  for (int64_t row = 0; row < n; ++row) {
    std::vector<double> scores;
    for (int64_t c = 0; c < n_classes; ++c) {
      double sum = 0.0;
      for (int64_t j = offsets[c]; j < offsets[c + 1]; ++j) sum += std::exp(logits.value(row * width + j));
      scores.push_back(std::log(sum));
    }
    const auto top = std::max_element(scores.begin(), scores.end());
    int64_t& mine = best[static_cast<size_t>(row)];
    mine = second[static_cast<size_t>(row)] = top - scores.begin();
    for (int64_t c = 0; c < n_classes; ++c) {
      const bool tie = copied && mine == 0 && c == 1;
      if (c != mine && !tie && scores[static_cast<size_t>(c)] > *top - close) second[static_cast<size_t>(row)] = c;
    }
  }
  on_every_path([&](int n_threads) {
    Exact<uint8_t> codes(n * n_bytes);
    const Status status = cpu::center_codes_from_logits(logits.data(), dtype, n, width, offsets.data(), n_classes,
                                                        centers.data(), n_bytes, codes.data(), true, n_threads);
    expect_status("center_codes_from_logits", status, Fault::none, -1);
    for (int64_t row = 0; row < n; ++row) {
      const auto is = [&](int64_t c) {
        const uint8_t *got = codes.data() + row * n_bytes, *center = centers.data() + c * n_bytes;
        return std::equal(got, got + n_bytes, center);
      };
      const int64_t wanted = best[static_cast<size_t>(row)];
      if (!is(wanted) && !is(second[static_cast<size_t>(row)])) {
        fail("center_codes_from_logits", row, "another code", "that of class " + std::to_string(wanted));
      }
    }
    count("center_codes_from_logits", n);
  });
}

void check_multilabel(Random& random, DType dtype, int64_t n, int64_t n_bits) {
  set_example(dtype, n, n_bits, "multi-label");
  const Typed logits = make_logits(random, dtype, n * n_bits, 0.5);
  Exact<double> thresholds(n_bits);
  for (int64_t j = 0; j < n_bits; ++j) thresholds[j] = 0.5 * static_cast<double>(random.below(5) - 2);
  const int64_t n_bytes = (n_bits + 7) / 8;
  Exact<uint8_t> wanted(n * n_bytes);
  for (int64_t i = 0; i < n * n_bits; ++i) {
    const int64_t bit = i % n_bits;
    const auto one = static_cast<uint8_t>(1u << (bit % 8));
    if (logits.value(i) > thresholds[bit]) wanted[i / n_bits * n_bytes + bit / 8] |= one;
  }
  on_every_path([&](int n_threads) {
    Exact<uint8_t> codes(wanted.size());
    for (int64_t i = 0; i < codes.size(); ++i) codes[i] = 0xA5;
    const Status status = cpu::multilabel_codes(logits.data(), dtype, n, n_bits, thresholds.data(), codes.data(), true,
                                                n_threads);
    expect_status("multilabel_codes", status, Fault::none, -1);
    expect_equal("multilabel_codes", codes, wanted);
  });
}

}  // namespace

void test_logits() {
  Random random(5);
  for (const DType dtype : kFloats) {
    const int64_t shapes[][3] = {{0, 4, 1}, {1, 1, 1}, {5, 2, 3}, {7, 31, 4}, {7, 33, 8}, {3, 170, 9}, {900, 40, 2}};
    for (const auto& [n, width, n_bytes] : shapes) {
      for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{5}, int64_t{17}, width}) {
        for (const Weighting weighting : {Weighting::mean, Weighting::probability}) {
          if (k <= width) check_codes(random, dtype, n, width, n_bytes, k, weighting);
        }
      }
      check_multilabel(random, dtype, n, width);
    }
    check_faults(random, dtype);
    check_centers(random, dtype, 0, {2, 2}, 1);
    check_centers(random, dtype, 5, {1}, 3);
    check_centers(random, dtype, 40, {3, 3, 1, 9}, 4);
    check_centers(random, dtype, 20, {33, 33, 17, 31, 65, 1}, 8);
    check_centers(random, dtype, 900, {10, 10, 20, 5}, 2);
  }
  finish_group("logits");
}

}  // namespace dshc::test
