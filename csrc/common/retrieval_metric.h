// The metrics of core/retrieval_metric.h from counts, tie by tie, for the CPU and the CUDA back end alike.
//
// A tie holds n items, p of them relevant, behind N items; its first m > 0 lie inside the cut. With ties `expected` every
// order inside a tie is as likely as any other, and a metric is its mean over them (McSherry & Najork 2008).
#pragma once
#include <cmath>
#include <cstdint>

#include "../core/retrieval_metric.h"
#include "average_precision.h"
#include "discounts.h"
#include "host_device.h"

namespace dshc {

DSHC_HOST_DEVICE inline double gain_of(int64_t n_shared, Gains gains) {
  return gains == Gains::linear ? static_cast<double>(n_shared) : std::exp2(static_cast<double>(n_shared)) - 1.0;
}

// All metrics are at most 1, of which rounding may take them an ulp beyond.
DSHC_HOST_DEVICE inline double at_most_one(double value) { return value > 1.0 ? 1.0 : value; }

// Metrics that know their value at the first relevant item; the others are sums over relevant items.
DSHC_HOST_DEVICE inline bool is_of_first(Metric metric) {
  return metric == Metric::reciprocal_rank || metric == Metric::hit_rate;
}

DSHC_HOST_DEVICE inline bool is_at_r(Metric metric) {
  return metric == Metric::r_precision || metric == Metric::average_precision_at_r;
}

// How many ranks count, of a query with so many items and relevant ones.
DSHC_HOST_DEVICE inline int64_t cut_of(const MetricTask& task, int64_t all_items, int64_t all_relevant) {
  if (is_at_r(task.metric)) return all_relevant;
  return task.k == 0 || task.k > all_items ? all_items : task.k;
}

// Where the first relevant item of a tie is in the order `best` or `worst`, counted from 1.
DSHC_HOST_DEVICE inline int64_t first_in_tie(int64_t n, int64_t p, Ties ties) { return ties == Ties::best ? 1 : n - p + 1; }

// The chance that one of the first m items of a tie is relevant. Draw after draw, of the m items or of the p relevant ones,
// whichever are fewer: it hits if none before did. All terms are positive, so that small chances are exact too.
DSHC_HOST_DEVICE inline double chance_of_hit(int64_t n, int64_t p, int64_t m) {
  if (m > n - p) return 1.0;
  const int64_t draws = p < m ? p : m;
  const double others = static_cast<double>(p < m ? m : p);
  double hit = 0.0, none = 1.0;
  for (int64_t i = 0; i < draws && none > 1e-20; ++i) {
    const double left = static_cast<double>(n - i);
    hit += none * (others / left);
    none *= (left - others) / left;
  }
  return at_most_one(hit);
}

// E[1 / rank of the first relevant item], 0 where it lies beyond the first m. P(none of the first t is relevant) falls about as
// (1 - p / n)^t, so that some 50 n / p terms tell all; one relevant item is as likely in any place, which has a closed form.
DSHC_HOST_DEVICE inline double expected_reciprocal_rank(int64_t n, int64_t p, int64_t N, int64_t m) {
  if (p == 1) return reciprocal_sums(N, m).s0 / static_cast<double>(n);
  const double relevant = static_cast<double>(p);
  const int64_t last = m < n - p + 1 ? m : n - p + 1;
  double sum = 0.0, none = 1.0;
  for (int64_t t = 1; t <= last && none > 1e-20; ++t) {
    const double left = static_cast<double>(n - t + 1);
    sum += none * relevant / (left * static_cast<double>(N + t));
    none *= (left - relevant) / left;
  }
  return sum;
}

// The metrics of the first relevant item, from the tie that holds it.
DSHC_HOST_DEVICE inline double from_first_tie(Metric metric, Ties ties, int64_t n, int64_t p, int64_t N, int64_t m) {
  if (ties == Ties::expected) {
    return metric == Metric::hit_rate ? chance_of_hit(n, p, m) : expected_reciprocal_rank(n, p, N, m);
  }
  const int64_t first = first_in_tie(n, p, ties);
  if (first > m) return 0.0;
  return metric == Metric::hit_rate ? 1.0 : 1.0 / static_cast<double>(N + first);
}

// How many relevant items of a tie lie inside the cut.
DSHC_HOST_DEVICE inline double relevant_inside(Ties ties, int64_t n, int64_t p, int64_t m) {
  if (ties == Ties::expected && m < n) return static_cast<double>(p) * static_cast<double>(m) / static_cast<double>(n);
  if (ties == Ties::expected) return static_cast<double>(p);
  if (ties == Ties::best) return static_cast<double>(p < m ? p : m);
  return static_cast<double>(m > n - p ? m - (n - p) : 0);
}

// What a tie adds to a sum over relevant items, but for DCG's; P relevant items lie before it.
DSHC_HOST_DEVICE inline double from_tie(Metric metric, Ties ties, int64_t n, int64_t p, int64_t N, int64_t P, int64_t m) {
  if (metric == Metric::average_precision_at_r) return tie_term(n, p, N, P, m, ties).sum;
  return relevant_inside(ties, n, p, m);
}

// The metric of such a sum. `k` is the cut as it was asked for, or 0.
DSHC_HOST_DEVICE inline double from_sum(Metric metric, double sum, int64_t k, int64_t all_items, int64_t all_relevant) {
  const int64_t divisor = metric == Metric::precision ? (k == 0 ? all_items : k) : all_relevant;
  return at_most_one(sum / static_cast<double>(divisor));
}

// Adds what `count` items of one gain are worth at the ranks behind `*at`, as far as the cut allows, and moves on.
template <class Discount = DiscountOfRank>
DSHC_HOST_DEVICE inline double run_of_gain(int64_t count, double gain, int64_t k, int64_t* at, Discount discount_of = {}) {
  const int64_t inside = *at + count < k ? count : (*at < k ? k - *at : 0);
  const double sum = count > 0 && inside > 0 ? gain * discount_sum(*at, inside, discount_of) : 0.0;
  *at += count;
  return sum;
}

// DCG of a tie. counts(s) gives how many of its items share s labels with the query, for s = 1 .. most; k is the cut.
template <class Counts, class Discount = DiscountOfRank>
DSHC_HOST_DEVICE inline double dcg_of_tie(Counts counts, int64_t most, int64_t n, int64_t p, int64_t N, int64_t k, Ties ties,
                                          Gains gains, Discount discount_of = {}) {
  if (ties == Ties::expected) {
    double gain = 0.0;
    for (int64_t s = 1; s <= most; ++s) gain += static_cast<double>(counts(s)) * gain_of(s, gains);
    return gain / static_cast<double>(n) * discount_sum(N, N + n < k ? n : k - N, discount_of);
  }
  double sum = 0.0;
  int64_t at = N;
  if (ties == Ties::best) {
    for (int64_t s = most; s >= 1 && at < k; --s) sum += run_of_gain(counts(s), gain_of(s, gains), k, &at, discount_of);
  } else {
    at += n - p;
    for (int64_t s = 1; s <= most && at < k; ++s) sum += run_of_gain(counts(s), gain_of(s, gains), k, &at, discount_of);
  }
  return sum;
}

// The largest DCG that an order of all items can have; totals(s): how many of all items share s labels.
template <class Totals>
DSHC_HOST_DEVICE inline double ideal_dcg(Totals totals, int64_t most, int64_t k, Gains gains) {
  double sum = 0.0;
  int64_t at = 0;
  for (int64_t s = most; s >= 1 && at < k; --s) sum += run_of_gain(totals(s), gain_of(s, gains), k, &at);
  return sum;
}

// ---- a query after the other, its ties in order: the CPU's way ----

struct QueryTotals {
  int64_t items = 0, relevant = 0;
};

// use(l, n, p, N, P, m) for the ties with relevant items, best first, up to the cut and until it returns false. items(l) and
// relevant(l) give the counts at rank value l = 0 .. n_values - 1.
template <class Items, class Relevant, class Use>
DSHC_HOST_DEVICE inline void for_each_tie(Items items, Relevant relevant, int64_t n_values, const QueryTotals& all, int64_t k,
                                          Use use) {
  int64_t N = 0, P = 0;
  for (int64_t l = 0; l < n_values && N < k && P < all.relevant; ++l) {
    const int64_t n = items(l), p = relevant(l);
    if (p > 0 && !use(l, n, p, N, P, n < k - N ? n : k - N)) return;
    N += n;
    P += p;
  }
}

template <class Items, class Relevant>
DSHC_HOST_DEVICE inline QueryTotals totals_of(Items items, Relevant relevant, int64_t n_values) {
  QueryTotals all;
  for (int64_t l = 0; l < n_values; ++l) {
    all.items += items(l);
    all.relevant += relevant(l);
  }
  return all;
}

// All metrics but nDCG.
template <class Items, class Relevant>
DSHC_HOST_DEVICE inline double metric_from_histogram(Items items, Relevant relevant, int64_t n_values, const MetricTask& task) {
  const QueryTotals all = totals_of(items, relevant, n_values);
  if (all.relevant == 0) return NAN;
  const bool of_first = is_of_first(task.metric);
  double sum = 0.0;
  for_each_tie(items, relevant, n_values, all, cut_of(task, all.items, all.relevant),
               [&](int64_t, int64_t n, int64_t p, int64_t N, int64_t P, int64_t m) {
                 sum += of_first ? from_first_tie(task.metric, task.ties, n, p, N, m)
                                 : from_tie(task.metric, task.ties, n, p, N, P, m);
                 return !of_first;
               });
  return of_first ? sum : from_sum(task.metric, sum, task.k, all.items, all.relevant);
}

// nDCG. counts(l, s): how many items of rank value l share s labels, for s = 1 .. most; totals(s) of all values.
template <class Items, class Relevant, class Counts, class Totals>
DSHC_HOST_DEVICE inline double ndcg_from_histogram(Items items, Relevant relevant, Counts counts, Totals totals, int64_t most,
                                                   int64_t n_values, const MetricTask& task) {
  const QueryTotals all = totals_of(items, relevant, n_values);
  if (all.relevant == 0) return NAN;
  const int64_t k = cut_of(task, all.items, all.relevant);
  double sum = 0.0;
  for_each_tie(items, relevant, n_values, all, k, [&](int64_t l, int64_t n, int64_t p, int64_t N, int64_t, int64_t) {
    sum += dcg_of_tie([&](int64_t s) { return counts(l, s); }, most, n, p, N, k, task.ties, task.gains);
    return true;
  });
  return at_most_one(sum / ideal_dcg(totals, most, k, task.gains));
}

}  // namespace dshc
