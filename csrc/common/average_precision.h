// Average precision of one query from its two histograms, without a sort.
//
// Items come in groups of equal distance (ties), best group first: group l holds n items, p of them relevant, and N items
// with P relevant ones lie before it. With a uniformly random order inside the ties (McSherry & Najork 2008; He et al.,
// CVPR 2018) the first m items of a group add, in expectation,
//     A(n, p, N, P; m) = (p / n) * sum_{t=1..m} (P + 1 + (t - 1) * (p - 1) / (n - 1)) / (N + t)
// to the sum of precisions at relevant items. Both sums below are closed forms, so that a query costs O(groups) and not
// O(items); the plain loop would cost one division an item, more than the popcount and the histogram together.
#pragma once
#include <cmath>
#include <cstdint>

#include "../core/average_precision.h"
#include "host_device.h"

namespace dshc {

// s0 = sum_{t=1..m} 1 / (N + t) and s1 = sum_{t=1..m} (t - 1) / (N + t).
struct ReciprocalSums {
  double s0, s1;
};

// log(y / x) and m - x log(y / x) for y = x + m > x > 0.
struct LogRatio {
  double log, rest;
};

DSHC_HOST_DEVICE inline LogRatio log_ratio(double x, double m) {
  const double y = x + m;
  if (m > 0.5 * x) {
    const double log = std::log(y / x);
    return {log, m - x * log};
  }
  // log(y / x) = 2 artanh(z) = 2 (z + z^3 / 3 + ...), z = m / (x + y) <= 1/5, and m - 2 x z = m z, so that nothing cancels;
  // the 12th term is below 1e-17 of m z.
  const double z = m / (x + y), w = z * z;
  double tail = 1.0 / 23;
  tail = 1.0 / 21 + w * tail;
  tail = 1.0 / 19 + w * tail;
  tail = 1.0 / 17 + w * tail;
  tail = 1.0 / 15 + w * tail;
  tail = 1.0 / 13 + w * tail;
  tail = 1.0 / 11 + w * tail;
  tail = 1.0 / 9 + w * tail;
  tail = 1.0 / 7 + w * tail;
  tail = 1.0 / 5 + w * tail;
  tail = 1.0 / 3 + w * tail;
  tail *= 2.0 * z * w;
  return {2.0 * z + tail, m * z - x * tail};
}

// Precise to a few ulp for every N >= 0, m >= 0: direct terms while N + t is small, then the asymptotic digamma
// difference. With x = N + 1/2, y = x + m:
//     s0 = log(y / x) + c(y) - c(x),  c(x) = 1 / (24 x^2) - 7 / (960 x^4) + 31 / (8064 x^6) - 127 / (30720 x^8),
//     s1 = m - (N + 1) s0 = (m - x log(y / x)) - log(y / x) / 2 - (x + 1/2) (c(y) - c(x)).
// The differences are formed so that nothing cancels when m is small against N.
DSHC_HOST_DEVICE inline ReciprocalSums reciprocal_sums(int64_t N, int64_t m) {
  ReciprocalSums sums{0.0, 0.0};
  constexpr int64_t kDirect = 32;  // from here on the dropped term of c(x) is below 1e-16 of 1 / x
  int64_t t = 1;
  for (; t <= m && m <= 4; ++t) {
    const double reciprocal = 1.0 / static_cast<double>(N + t);
    sums.s0 += reciprocal;
    sums.s1 += static_cast<double>(t - 1) * reciprocal;
  }
  const int64_t last = kDirect - N < m ? kDirect - N : m;
  while (t <= last) {
    // Up to 8 terms as two fractions with one denominator: a division is worth many multiplications.
    double s0 = 0.0, s1 = 0.0, denominator = 1.0;
    for (int i = 0; i < 8 && t <= last; ++i, ++t) {
      const double factor = static_cast<double>(N + t);
      s0 = s0 * factor + denominator;
      s1 = s1 * factor + static_cast<double>(t - 1) * denominator;
      denominator *= factor;
    }
    sums.s0 += s0 / denominator;
    sums.s1 += s1 / denominator;
  }
  if (t > m) return sums;
  const double skipped = static_cast<double>(t - 1), rest = static_cast<double>(m - (t - 1));
  const double x = static_cast<double>(N) + skipped + 0.5, y = x + rest;
  const double a = 1.0 / (x * x), b = 1.0 / (y * y);
  const double b_minus_a = -rest * (x + y) * a * b;
  const double c_difference =
      b_minus_a * (1.0 / 24 + (a + b) * (-7.0 / 960) + (a * a + a * b + b * b) * (31.0 / 8064) +
                   (a + b) * (a * a + b * b) * (-127.0 / 30720));
  const LogRatio ratio = log_ratio(x, rest);
  const double s0 = ratio.log + c_difference;
  sums.s0 += s0;
  sums.s1 += ratio.rest - 0.5 * ratio.log - (x + 0.5) * c_difference + skipped * s0;
  return sums;
}

// sum of (P + 1 + (t - 1) * slope) / (N + t) over t = 1..m.
DSHC_HOST_DEVICE inline double precision_sum(int64_t P, double slope, const ReciprocalSums& sums) {
  return static_cast<double>(P + 1) * sums.s0 + slope * sums.s1;
}

// (S + A(m, x, N, P; m)) / (P + x) over x ~ Hypergeometric(n, p, m): the cut at k takes m of the n items of a tie, and the
// divisor "retrieved" is the number of relevant items it lets in, x of which are of this tie. Probabilities are to be built
// outwards from the mode by ratios and normalised by their own sum, which avoids factorials and their rounding.
struct RetrievedAtCut {
  static constexpr double kNegligible = 1e-40;  // of a probability, the mode's being 1
  double S;
  int64_t n, p, P, m;
  ReciprocalSums sums;
  int64_t low, high, mode;

  DSHC_HOST_DEVICE RetrievedAtCut(double S, int64_t n, int64_t p, int64_t N, int64_t P, int64_t m)
      : S(S), n(n), p(p), P(P), m(m), sums(reciprocal_sums(N, m)) {
    low = m - (n - p) > 0 ? m - (n - p) : 0;
    high = p < m ? p : m;
    mode = static_cast<int64_t>((static_cast<double>(m) + 1.0) * (static_cast<double>(p) + 1.0) /
                                (static_cast<double>(n) + 2.0));
    mode = mode < low ? low : (mode > high ? high : mode);
  }

  DSHC_HOST_DEVICE double value(int64_t x) const {
    if (P + x == 0) return 0.0;
    const double slope = m > 1 ? static_cast<double>(x - 1) / static_cast<double>(m - 1) : 0.0;
    const double inside = x == 0 ? 0.0 : static_cast<double>(x) / static_cast<double>(m) * precision_sum(P, slope, sums);
    return (S + inside) / static_cast<double>(P + x);
  }

  // Pr(x + 1) / Pr(x) = risen(x) / fallen(x)
  DSHC_HOST_DEVICE double risen(int64_t x) const { return static_cast<double>(p - x) * static_cast<double>(m - x); }
  DSHC_HOST_DEVICE double fallen(int64_t x) const {
    return static_cast<double>(x + 1) * static_cast<double>(n - p - m + x + 1);
  }
};

DSHC_HOST_DEVICE inline double expected_retrieved_at_cut(double S, int64_t n, int64_t p, int64_t N, int64_t P, int64_t m) {
  const RetrievedAtCut cut(S, n, p, N, P, m);
  double weight = 1.0, total = 1.0, expected = cut.value(cut.mode);
  for (int64_t x = cut.mode; x < cut.high && weight > cut.kNegligible; ++x) {
    weight *= cut.risen(x) / cut.fallen(x);
    total += weight;
    expected += weight * cut.value(x + 1);
  }
  weight = 1.0;
  for (int64_t x = cut.mode; x > cut.low && weight > cut.kNegligible; --x) {
    weight /= cut.risen(x - 1) / cut.fallen(x - 1);
    total += weight;
    expected += weight * cut.value(x - 1);
  }
  return expected / total;
}

DSHC_HOST_DEVICE inline double divide_precisions(double sum, int64_t retrieved, int64_t all_relevant, int64_t k,
                                                 Denominator denominator) {
  int64_t divisor = all_relevant;
  if (denominator == Denominator::retrieved) divisor = retrieved;
  if (denominator == Denominator::min && k < all_relevant) divisor = k;
  return divisor > 0 ? sum / static_cast<double>(divisor) : 0.0;
}

// What one tie adds to the sum of precisions at relevant items, and how many of these it counts: n items, p > 0 of them
// relevant, behind N items with P relevant ones; its first m > 0 lie inside the cut.
struct TieTerm {
  double sum;
  int64_t taken;
};

DSHC_HOST_DEVICE inline TieTerm tie_term(int64_t n, int64_t p, int64_t N, int64_t P, int64_t m, Ties ties) {
  if (ties == Ties::expected) {
    const double slope = n > 1 ? static_cast<double>(p - 1) / static_cast<double>(n - 1) : 0.0;
    // Past a cut only the divisors `min` and `relevant` are left, which do not read what was taken.
    return {static_cast<double>(p) / static_cast<double>(n) * precision_sum(P, slope, reciprocal_sums(N, m)), p};
  }
  // One run of relevant items: at the start of the tie (best), or at its end (worst).
  const int64_t start = ties == Ties::best ? 0 : n - p;
  const int64_t taken = m <= start ? 0 : (m - start < p ? m - start : p);
  return {precision_sum(P, 1.0, reciprocal_sums(N + start, taken)), taken};
}

// A tie of which only the first m of n items lie inside the cut, where the divisor depends on which of them are relevant.
DSHC_HOST_DEVICE inline bool needs_expectation(int64_t n, int64_t m, Ties ties, Denominator denominator) {
  return m < n && ties == Ties::expected && denominator == Denominator::retrieved;
}

// items(l) and relevant(l) give the counts at rank value l = 0 .. n_values - 1. Ties: expected, best or worst.
template <class Items, class Relevant>
DSHC_HOST_DEVICE inline double average_precision_from_histogram(Items items, Relevant relevant, int64_t n_values,
                                                                int64_t k, Ties ties, Denominator denominator) {
  int64_t all_items = 0, all_relevant = 0;
  for (int64_t l = 0; l < n_values; ++l) {
    all_items += items(l);
    all_relevant += relevant(l);
  }
  if (all_relevant == 0) return NAN;
  if (k > all_items) k = all_items;

  double sum = 0.0;  // of precisions at relevant items
  int64_t N = 0, P = 0;
  for (int64_t l = 0; l < n_values && N < k && P < all_relevant; ++l) {
    const int64_t n = items(l), p = relevant(l);
    if (p > 0) {
      const int64_t m = n < k - N ? n : k - N;
      if (needs_expectation(n, m, ties, denominator)) return expected_retrieved_at_cut(sum, n, p, N, P, m);
      const TieTerm term = tie_term(n, p, N, P, m, ties);
      sum += term.sum;
      P += term.taken;
    }
    N += n;
  }
  return divide_precisions(sum, P, all_relevant, k, denominator);
}

}  // namespace dshc
