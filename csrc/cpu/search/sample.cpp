#include "sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../call/spread.h"
#include "../call/threads.h"
#include "walk.h"

namespace dshc::cpu {
namespace {

// Many short runs, because a database is often sorted by class.
class Sample {
 public:
  Sample(const Pairs& pairs, int64_t n_items) : pairs_(pairs) {
    const int64_t n_runs = n_items / kSampleRun;
    codes_.resize(static_cast<size_t>(n_items * pairs.n_bytes));
    std::vector<int64_t> runs(static_cast<size_t>(n_runs));
    const int64_t places = pairs.n_db / kSampleRun;
    for_spread(n_runs, places, [&](int64_t r, int64_t place) {
      runs[static_cast<size_t>(r)] = place;
      std::memcpy(codes_.data() + r * kSampleRun * pairs.n_bytes, pairs.database + place * kSampleRun * pairs.n_bytes,
                  static_cast<size_t>(kSampleRun * pairs.n_bytes));
    });
    pairs_.database = codes_.data();
    pairs_.n_db = n_items;
    pairs_.equal_codes = {};
    if (!pairs.allowed) return;
    const int64_t rows = pairs.allowed_stride == 0 ? 1 : pairs.n_query;
    allowed_.resize(static_cast<size_t>(rows * n_runs));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t r = 0; r < n_runs; ++r) {
        allowed_[static_cast<size_t>(row * n_runs + r)] =
            pairs.allowed[row * pairs.allowed_stride + runs[static_cast<size_t>(r)]];
      }
    }
    pairs_.allowed = allowed_.data();
    pairs_.allowed_stride = rows == 1 ? 0 : n_runs;
  }

  const Pairs& pairs() const { return pairs_; }

 private:
  Pairs pairs_;
  std::vector<uint8_t> codes_, allowed_;
};

}  // namespace

std::vector<int32_t> likely_limits(const Plan& plan, const Pairs& pairs, int64_t k, int n_threads) {
  const int32_t no_limit = n_rank_values(pairs);
  std::vector<int32_t> limits(static_cast<size_t>(pairs.n_query), no_limit);
  const int64_t n_items = plan.sample_items;
  if (n_items == 0) return limits;

  const double share = static_cast<double>(n_items) / static_cast<double>(pairs.n_db);
  const double in_sample = static_cast<double>(k) * share;
  // Four standard deviations above: a second search is needed about once in 30,000 queries of unsorted data.
  const int64_t rank = static_cast<int64_t>(in_sample + 4.0 * std::sqrt(in_sample)) + 4;
  const Sample sample(pairs, n_items);
  const Plan of_sample = plan_sample(sample.pairs(), *plan.level, n_threads);
  const Tasks& tasks = of_sample.tasks;
  parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
    const int64_t begin = group * tasks.group, end = std::min(begin + tasks.group, pairs.n_query);
    std::vector<Survivors> survivors;
    for (int64_t q = begin; q < end; ++q) survivors.emplace_back(rank, no_limit);
    FilterWalk(of_sample, sample.pairs(), begin, end).run(0, n_items, {survivors.data(), begin, 1});
    for (int64_t q = begin; q < end; ++q) {
      const int32_t value = survivors[static_cast<size_t>(q - begin)].kth_value();
      if (value >= 0) limits[static_cast<size_t>(q)] = value + 1;
    }
  });
  return limits;
}

}  // namespace dshc::cpu
