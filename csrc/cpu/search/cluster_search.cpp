#include "cluster_search.h"

#include <algorithm>
#include <utility>

#include "../call/blocks.h"
#include "../call/call.h"
#include "../call/plan.h"
#include "../call/threads.h"
#include "../kernels/level.h"
#include "counted_nearest.h"
#include "sort_keys.h"

namespace dshc::cpu {

namespace {

// The nearest items alone: the k best of those met so far.
class KeepNearest {
 public:
  KeepNearest(int64_t k, int32_t n_values) : k_(k), n_values_(n_values) {}
  void start() { nearest_.start(k_, n_values_); }
  // Items farther than this are not wanted; known is false where that may still be any.
  int32_t most() const { return nearest_.bound() - 1; }
  bool known() const { return nearest_.full(); }
  void add(Key key) { nearest_.add(key); }
  const std::vector<Key>& finish() { return nearest_.finish(); }

 private:
  int64_t k_;
  int32_t n_values_;
  CountedNearest nearest_;
};

class KeepWithin {
 public:
  KeepWithin(int32_t radius, int64_t n_db) : radius_(radius), n_db_(n_db) {}
  void start() { keys_.clear(); }
  int32_t most() const { return radius_; }
  bool known() const { return true; }
  void add(Key key) { keys_.push_back(key); }
  const std::vector<Key>& finish() {
    sort_keys(keys_, n_db_, spare_);
    return keys_;
  }

 private:
  int32_t radius_;
  int64_t n_db_;
  std::vector<Key> keys_, spare_;
};

// Where the least of some values first is; `places` has room for as many.
int64_t first_of_least(const RankKernels& kernels, const std::vector<uint16_t>& values, std::vector<uint32_t>& places) {
  uint16_t least = UINT16_MAX;
  for (const uint16_t value : values) least = value < least ? value : least;
  kernels.select_between(values.data(), static_cast<int64_t>(values.size()), least, static_cast<uint16_t>(least + 1),
                         places.data());
  return places[0];
}

// One query after another, in memory of its own.
template <class Keep>
class ClusterWalk {
 public:
  ClusterWalk(const Pairs& pairs, int64_t budget, Keep keep)
      : pairs_(pairs),
        clusters_(*pairs.clusters),
        filter_(filter_in_place(level(), pairs)),
        keep_(std::move(keep)),
        padded_(pairs.n_bytes),
        budget_(budget),
        distances_(static_cast<size_t>(clusters_.n_centers)),
        least_(static_cast<size_t>(clusters_.n_centers)),
        near_(static_cast<size_t>(clusters_.n_centers)),
        values_(filter_ ? 0 : kStretch),
        positions_(filter_ ? 0 : kStretch),
        keys_(kStretch) {}

  // False: a scan is faster.
  bool run(int64_t query) {
    const RankKernels& kernels = *level().rank;
    const int64_t n_centers = clusters_.n_centers;
    query_ = padded_.load(pairs_.queries, query, 1);
    keep_.start();
    stop_point(static_cast<double>(n_centers));
    kernels.rank_row(Score::hamming, query_, clusters_.centers, n_centers, padded_.stride(), 0, distances_.data());
    // Of each center the least distance that one of its items may have.
    for (int64_t c = 0; c < n_centers; ++c) {
      const uint16_t d = distances_[static_cast<size_t>(c)], radius = clusters_.radii[c];
      least_[static_cast<size_t>(c)] = d > radius ? static_cast<uint16_t>(d - radius) : uint16_t{0};
    }
    // Until a bound is known, center after center as they are near; mostly the first is enough.
    int64_t left = 0;
    while (!keep_.known() && left <= budget_) {
      const int64_t center = first_of_least(kernels, distances_, near_);
      if (distances_[static_cast<size_t>(center)] == kDone) break;
      const int64_t begin = clusters_.begin(center, 0), end = clusters_.begin(center, clusters_.n_rings);
      compare(begin, end);
      left += end - begin;
      least_[static_cast<size_t>(center)] = distances_[static_cast<size_t>(center)] = kDone;
    }
    if (left > budget_) return false;  // a mask leaves few items of each
    const int64_t n_near =
        kernels.select_between(least_.data(), n_centers, 0, static_cast<uint16_t>(keep_.most() + 1), near_.data());
    for (int64_t i = 0; i < n_near; ++i) {
      const Rings rings = rings_of(near_[static_cast<size_t>(i)]);
      left += rings.end - rings.begin;
    }
    if (left > budget_) return false;
    for (int64_t i = 0; i < n_near; ++i) {
      const Rings rings = rings_of(near_[static_cast<size_t>(i)]);  // the bound has fallen since
      compare(rings.begin, rings.end);
    }
    return true;
  }

  const std::vector<Key>& finish() { return keep_.finish(); }

 private:
  static constexpr int64_t kFirstStretch = 32, kStretch = 4096;
  static constexpr uint16_t kDone = 1 << 14;  // more than any distance

  struct Rings {
    int64_t begin, end;  // rows
  };

  Rings rings_of(int64_t center) const {
    const int32_t d = distances_[static_cast<size_t>(center)], most = keep_.most(), last = clusters_.radii[center];
    const int32_t low = std::max(0, d - most), high = std::min(last, d + most);
    if (low > high) return {0, 0};
    return {clusters_.begin(center, low), clusters_.begin(center, high + 1)};
  }

  // The rows [begin, end), in stretches that grow: until a bound has fallen every row is kept.
  void compare(int64_t begin, int64_t end) {
    const int32_t stride = padded_.stride();
    for (int64_t stretch = keep_.known() ? kStretch : kFirstStretch, n = 0; begin < end; begin += n) {
      n = std::min(stretch, end - begin);
      stretch = std::min(4 * stretch, kStretch);
      stop_point(static_cast<double>(n * stride) / 64);
      const Key* end_of_found = filter_ ? filter(begin, n) : rank(begin, n);
      for (const Key* key = keys_.data(); key < end_of_found; ++key) {
        const uint32_t item = clusters_.items[index_of(*key)];
        if (pairs_.allowed && !(pairs_.allowed[item / 8] >> (item % 8) & 1)) continue;
        keep_.add(make_key(value_of(*key), item));
      }
    }
  }

  // The rows within the bound, into keys_; both return their end.
  const Key* filter(int64_t begin, int64_t n) {
    const WordShape shape(pairs_.n_bytes);
    FilterPass pass{};
    pass.score = Score::hamming;
    pass.n_bytes = pairs_.n_bytes;
    pass.word_bytes = shape.word_bytes;
    pass.n_words = shape.n_words;
    pass.columns = clusters_.rows + begin * padded_.stride();
    pass.n = n;
    pass.first = static_cast<uint64_t>(begin);
    pass.n_queries = 1;
    pass.queries[0] = query_;
    pass.bounds[0] = static_cast<uint16_t>(keep_.most() + 1);
    pass.found[0] = keys_.data();
    filter_->filter(pass);
    return pass.found[0];
  }

  const Key* rank(int64_t begin, int64_t n) {
    const RankKernels& kernels = *level().rank;
    const int32_t stride = padded_.stride();
    kernels.rank_row(Score::hamming, query_, clusters_.rows + begin * stride, n, stride, 0, values_.data());
    const int64_t found =
        kernels.select_between(values_.data(), n, 0, static_cast<uint16_t>(keep_.most() + 1), positions_.data());
    for (int64_t i = 0; i < found; ++i) {
      const uint32_t at = positions_[static_cast<size_t>(i)];
      keys_[static_cast<size_t>(i)] = make_key(values_[at], static_cast<uint64_t>(begin) + at);
    }
    return keys_.data() + found;
  }

  const Pairs& pairs_;
  const CodeClusters& clusters_;
  const FilterRow* filter_;  // null: rank values are worked out, then looked through
  Keep keep_;
  StridedCodes padded_;
  int64_t budget_;
  const uint8_t* query_ = nullptr;
  std::vector<uint16_t> distances_, least_;  // of each center
  std::vector<uint32_t> near_;
  std::vector<uint16_t> values_;
  std::vector<uint32_t> positions_;
  std::vector<Key> keys_;  // of rows
};

// The queries in order of their nearest centers, so that items which one has brought into the cache serve the next.
std::vector<int64_t> by_nearest_center(const Pairs& pairs, int64_t n_tasks, int n_threads) {
  const CodeClusters& clusters = *pairs.clusters;
  const int64_t n = pairs.n_query;
  std::vector<uint16_t> nearest(static_cast<size_t>(n));
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const RankKernels& kernels = *level().rank;
    StridedCodes padded(pairs.n_bytes);
    std::vector<uint16_t> distances(static_cast<size_t>(clusters.n_centers));
    std::vector<uint32_t> near(static_cast<size_t>(clusters.n_centers));
    for (int64_t q = n * task / n_tasks; q < n * (task + 1) / n_tasks; ++q) {
      stop_point(static_cast<double>(clusters.n_centers));
      const uint8_t* query = padded.load(pairs.queries, q, 1);
      kernels.rank_row(Score::hamming, query, clusters.centers, clusters.n_centers, padded.stride(), 0, distances.data());
      nearest[static_cast<size_t>(q)] = static_cast<uint16_t>(first_of_least(kernels, distances, near));
    }
  });
  std::vector<int64_t> places(static_cast<size_t>(clusters.n_centers) + 1, 0), order(static_cast<size_t>(n));
  for (const uint16_t center : nearest) ++places[center + size_t{1}];
  for (size_t c = 1; c < places.size(); ++c) places[c] += places[c - 1];
  for (int64_t q = 0; q < n; ++q) order[static_cast<size_t>(places[nearest[static_cast<size_t>(q)]]++)] = q;
  return order;
}

template <class Keep>
std::vector<int64_t> search_all(const ClusterPlan& plan, const Pairs& pairs, const Keep& keep, const TakeAnswer& take) {
  constexpr int64_t kWorthOrder = 128;  // queries
  const int64_t n = pairs.n_query, n_tasks = std::min<int64_t>(n, plan.n_threads == 1 ? 1 : 4 * plan.n_threads);
  const std::vector<int64_t> order = n < kWorthOrder ? std::vector<int64_t>{} : by_nearest_center(pairs, n_tasks, plan.n_threads);
  std::vector<uint8_t> given_up(static_cast<size_t>(n), 0);
  parallel_for(n_tasks, plan.n_threads, [&](int64_t task) {
    ClusterWalk<Keep> walk(pairs, plan.budget, keep);
    for (int64_t at = n * task / n_tasks; at < n * (task + 1) / n_tasks; ++at) {
      const int64_t q = order.empty() ? at : order[static_cast<size_t>(at)];
      if (walk.run(q)) {
        take(q, walk.finish());
      } else {
        given_up[static_cast<size_t>(q)] = 1;
      }
    }
  });
  std::vector<int64_t> left;
  for (int64_t q = 0; q < n; ++q) {
    if (given_up[static_cast<size_t>(q)]) left.push_back(q);
  }
  return left;
}

}  // namespace

std::vector<int64_t> cluster_topk(const ClusterPlan& plan, const Pairs& pairs, int64_t k, const TakeAnswer& take) {
  return search_all(plan, pairs, KeepNearest(k, n_rank_values(pairs)), take);
}

std::vector<int64_t> cluster_radius(const ClusterPlan& plan, const Pairs& pairs, int32_t radius, const TakeAnswer& take) {
  return search_all(plan, pairs, KeepWithin(radius, pairs.n_db), take);
}

}  // namespace dshc::cpu
