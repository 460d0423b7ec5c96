// The parts of common/retrieval_metric.h that belong to a query and not to a tie, worked out by a warp together: sums of
// discounts, the ideal DCG, and the tie that holds the first relevant item. All lanes give the same values and get the result.
#pragma once
#include "../common/retrieval_metric.h"
#include "warp.h"

namespace dshc::cuda {

// The discounts of ranks below kDirectDiscounts, in shared memory: of most sums they would be most of the work.
struct DiscountTable {
  const double* table;

  __device__ __forceinline__ double operator()(int64_t rank) const {
    return rank < kDirectDiscounts ? table[rank] : discount(rank);
  }
};

constexpr size_t kDiscountBytes = kDirectDiscounts * sizeof(double);

// By the whole block.
__device__ __forceinline__ DiscountTable fill_discounts() {
  auto* table = dynamic_shared<double>();
  for (int rank = static_cast<int>(threadIdx.x); rank < kDirectDiscounts; rank += static_cast<int>(blockDim.x)) table[rank] = discount(rank);
  __syncthreads();
  return {table};
}

// As discount_sum, of values that all lanes have: each takes some of the first ranks, and one of the stretches that double.
__device__ __forceinline__ double warp_discount_sum(int64_t before, int64_t m, const DiscountTable& discounts) {
  const int64_t left = before + 1 < kDirectDiscounts ? kDirectDiscounts - 1 - before : 0, direct = m < left ? m : left;
  double sum = 0.0;
  for (int64_t t = lane() + 1; t <= direct; t += kWarp) sum += discounts(before + t);
  if (direct < m) {
    const double x = static_cast<double>(before + direct) + 1.5, y = static_cast<double>(before + m) + 1.5;
    const double from = x * static_cast<double>(1ll << lane());
    double rest = from < y ? reciprocal_log_integral(from, 2.0 * from < y ? 2.0 * from : y) : 0.0;
    if (lane() < 2) rest += lane() == 0 ? -midpoint_correction(x) : midpoint_correction(y);
    sum += kLn2 * rest;
  }
  return warp_reduce(sum, Sum{});
}

// The largest DCG that an order of all items can have, on all lanes; totals(s): how many items share s labels.
template <class Totals>
__device__ __forceinline__ double warp_ideal_dcg(Totals totals, int32_t n_labels, int64_t k, Gains gains,
                                                 const DiscountTable& discounts) {
  double sum = 0.0;
  int64_t at = 0;
  for (int s = n_labels; s >= 1 && at < k; --s) {
    const int64_t count = totals(s), inside = count < k - at ? count : k - at;
    if (inside > 0) sum += gain_of(s, gains) * warp_discount_sum(at, inside, discounts);
    at += count;
  }
  return sum;
}

// Sum over t = 1 .. last of the chance that draw t of n, without putting back, is the first of `good` ones, times worth(t): a
// draw a lane. All terms are positive, so that small chances are exact too.
template <class Worth>
__device__ __forceinline__ double warp_first_of(int64_t n, int64_t good, int64_t last, Worth worth) {
  double sum = 0.0, none = 1.0;
  for (int64_t first = 0; first < last && none > 1e-20; first += kWarp) {
    const int64_t t = first + lane() + 1;
    const double left = static_cast<double>(n - t + 1), wanted = static_cast<double>(good);
    const double product = warp_product(t <= last ? (left - wanted) / left : 1.0);  // that draws from first + 1 to t are others
    const double before = __shfl_up_sync(kFullMask, product, 1);
    if (t <= last) sum += none * (lane() == 0 ? 1.0 : before) * (wanted / left) * worth(t);
    none *= __shfl_sync(kFullMask, product, kWarp - 1);
  }
  return warp_reduce(sum, Sum{});
}

// from_first_tie of values that all lanes have.
__device__ __forceinline__ double warp_from_first_tie(const MetricTask& task, int64_t n, int64_t p, int64_t N, int64_t m) {
  const bool hit_rate = task.metric == Metric::hit_rate;
  if (task.ties != Ties::expected || (hit_rate ? m > n - p : p == 1)) return from_first_tie(task.metric, task.ties, n, p, N, m);
  if (hit_rate) return at_most_one(warp_first_of(n, p < m ? m : p, p < m ? p : m, [](int64_t) { return 1.0; }));
  return warp_first_of(n, p, m < n - p + 1 ? m : n - p + 1, [&](int64_t t) { return 1.0 / static_cast<double>(N + t); });
}

}  // namespace dshc::cuda
