#include "code_clusters.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "../call/blocks.h"
#include "../call/call.h"
#include "../call/spread.h"
#include "../call/threads.h"
#include "../kernels/level.h"

namespace dshc::cpu {

namespace {

constexpr int64_t kFewest = 1 << 15;       // items; fewer are scanned as fast
constexpr int64_t kSample = 1 << 13;       // items that show whether there are clusters
constexpr int64_t kMostCenters = kSample / 8;
constexpr int64_t kProbes = 128;           // of the sample, in the place of queries
constexpr int64_t kPays = 16;              // a search may compare this part of the database, centers included
constexpr int kRounds = 2;                 // in which centers move to the middle of their items
constexpr int32_t kReaches[] = {1, 2, 3, 4, 5};  // sixteenths of the bits; two random codes differ in eight

// Centers, and the items of a sample put to them.
class Trial {
 public:
  Trial(const std::vector<uint8_t>& sample, int32_t row_bytes)
      : sample_(sample),
        width_(static_cast<size_t>(row_bytes)),
        n_(static_cast<int64_t>(sample.size() / width_)),
        values_(static_cast<size_t>(kMostCenters)),
        near_(static_cast<size_t>(std::max(kMostCenters, n_))),
        center_of_(static_cast<size_t>(n_)),
        ring_of_(static_cast<size_t>(n_)) {}

  // Centers such that each item is within `reach` of one, moved to the middle of their items. False: there are too many.
  bool find(int32_t reach) {
    centers_.clear();
    n_centers_ = 0;
    for (int64_t i = 0; i < n_; ++i) {
      compare(row(i));
      if (level().rank->select_between(values_.data(), n_centers_, 0, static_cast<uint16_t>(reach + 1), near_.data()) > 0) {
        continue;
      }
      if (n_centers_ == kMostCenters) return false;
      centers_.insert(centers_.end(), row(i), row(i) + width_);
      ++n_centers_;
    }
    for (int round = 0; round < kRounds; ++round) {
      put_all();
      move_centers();
    }
    put_all();
    return true;
  }

  // How many of the database's n items a search compares, centers included, as the sample shows it.
  double cost(int64_t n) {
    const int32_t n_rings = static_cast<int32_t>(8 * width_) + 1;
    std::vector<uint32_t> up_to(static_cast<size_t>(n_centers_ * (n_rings + 1)), 0);  // [center][ring + 1], added up
    for (int64_t i = 0; i < n_; ++i) ++up_to[at(center_of_[static_cast<size_t>(i)], ring_of_[static_cast<size_t>(i)] + 1, n_rings)];
    for (int64_t c = 0; c < n_centers_; ++c) {
      for (int32_t r = 0; r < n_rings; ++r) up_to[at(c, r + 1, n_rings)] += up_to[at(c, r, n_rings)];
    }
    const int64_t n_probes = std::min(kProbes, n_);
    int64_t compared = 0;
    for (int64_t p = 0; p < n_probes; ++p) {
      const int64_t probe = n_ * p / n_probes;
      // One item of the sample so near stands for n / 8,192 of the database: the bound of a k of about that.
      const int32_t bound = nearest_other(probe);
      compare(row(probe));
      for (int64_t c = 0; c < n_centers_; ++c) {
        const int32_t d = values_[static_cast<size_t>(c)];
        const int32_t low = std::max(0, d - bound), high = std::min(n_rings - 1, d + bound);
        compared += up_to[at(c, high + 1, n_rings)] - up_to[at(c, low, n_rings)];
      }
      stop_point(10.0 * static_cast<double>(n_centers_));
    }
    const double share = static_cast<double>(compared) / static_cast<double>(n_probes * n_);
    return static_cast<double>(n_centers_) + share * static_cast<double>(n);
  }

  const std::vector<uint8_t>& centers() const { return centers_; }

 private:
  const uint8_t* row(int64_t i) const { return sample_.data() + static_cast<size_t>(i) * width_; }
  static size_t at(int64_t center, int32_t ring, int32_t n_rings) {
    return static_cast<size_t>(center * (n_rings + 1) + ring);
  }

  void compare(const uint8_t* code) {
    stop_point(static_cast<double>(n_centers_));
    level().rank->rank_row(Score::hamming, code, centers_.data(), n_centers_, static_cast<int32_t>(width_), 0, values_.data());
  }

  void put_all() {
    for (int64_t i = 0; i < n_; ++i) {
      compare(row(i));
      const auto nearest = std::min_element(values_.begin(), values_.begin() + n_centers_);
      center_of_[static_cast<size_t>(i)] = static_cast<uint32_t>(nearest - values_.begin());
      ring_of_[static_cast<size_t>(i)] = *nearest;
    }
  }

  // To what most of their items have, bit by bit; one that has no item is left out.
  void move_centers() {
    std::vector<int32_t> ones(static_cast<size_t>(n_centers_) * 8 * width_, 0), members(static_cast<size_t>(n_centers_), 0);
    for (int64_t i = 0; i < n_; ++i) {
      const size_t center = center_of_[static_cast<size_t>(i)];
      int32_t* mine = ones.data() + center * 8 * width_;
      const uint8_t* code = row(i);
      for (size_t byte = 0; byte < width_; ++byte) {
        for (int bit = 0; bit < 8; ++bit) mine[8 * byte + static_cast<size_t>(bit)] += code[byte] >> bit & 1;
      }
      ++members[center];
      stop_point(8.0 * static_cast<double>(width_));
    }
    int64_t kept = 0;
    for (int64_t c = 0; c < n_centers_; ++c) {
      const int32_t n = members[static_cast<size_t>(c)];
      if (n == 0) continue;
      uint8_t* to = centers_.data() + static_cast<size_t>(kept++) * width_;
      const int32_t* mine = ones.data() + static_cast<size_t>(c) * 8 * width_;
      for (size_t byte = 0; byte < width_; ++byte) {
        int value = 0;
        for (int bit = 0; bit < 8; ++bit) value |= (2 * mine[8 * byte + static_cast<size_t>(bit)] > n) << bit;
        to[byte] = static_cast<uint8_t>(value);
      }
    }
    n_centers_ = kept;
    centers_.resize(static_cast<size_t>(kept) * width_);
  }

  // The distance of the nearest other item of a sampled item's own cluster.
  int32_t nearest_other(int64_t probe) {
    int32_t least = static_cast<int32_t>(8 * width_);
    uint16_t value = 0;
    for (int64_t i = 0; i < n_; ++i) {
      if (i == probe || center_of_[static_cast<size_t>(i)] != center_of_[static_cast<size_t>(probe)]) continue;
      level().rank->rank_row(Score::hamming, row(probe), row(i), 1, static_cast<int32_t>(width_), 0, &value);
      least = std::min<int32_t>(least, value);
    }
    return least;
  }

  const std::vector<uint8_t>& sample_;
  size_t width_;
  int64_t n_, n_centers_ = 0;
  std::vector<uint8_t> centers_;
  std::vector<uint16_t> values_;
  std::vector<uint32_t> near_, center_of_;
  std::vector<uint16_t> ring_of_;
};

std::vector<uint8_t> sample_of(const uint8_t* rows, int32_t row_bytes, int64_t n) {
  const int64_t n_sample = std::min(kSample, divide_up(n, 4));
  std::vector<uint8_t> sample(static_cast<size_t>(n_sample * row_bytes));
  for_spread(n_sample, n, [&](int64_t i, int64_t item) {
    std::memcpy(sample.data() + i * row_bytes, rows + item * row_bytes, static_cast<size_t>(row_bytes));
  });
  return sample;
}

}  // namespace

OwnedClusters::OwnedClusters(const uint8_t* rows, int32_t row_bytes, int64_t n, bool always, int n_threads) {
  const Call call;
  if ((n < kFewest && !always) || n < 1 || n > UINT32_MAX) return;
  const std::vector<uint8_t> sample = sample_of(rows, row_bytes, n);
  Trial trial(sample, row_bytes);
  double best = always ? std::numeric_limits<double>::infinity() : static_cast<double>(n) / kPays;
  for (const int32_t sixteenths : kReaches) {
    if (!trial.find(std::max(1, 8 * row_bytes * sixteenths / 16))) continue;
    const double cost = trial.cost(n);
    if (cost >= best) continue;
    best = cost;
    centers_ = trial.centers();
  }
  if (!centers_.empty()) put(rows, row_bytes, n, n_threads);
}

// Every item to its nearest center, by distance from it.
void OwnedClusters::put(const uint8_t* rows, int32_t row_bytes, int64_t n, int n_threads) {
  const int64_t n_centers = static_cast<int64_t>(centers_.size()) / row_bytes;
  const int32_t n_rings = 8 * row_bytes + 1;
  std::vector<uint16_t> center_of(static_cast<size_t>(n)), ring_of(static_cast<size_t>(n));
  const int64_t n_tasks = task_count(n, static_cast<double>(n_centers), n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const RankKernels& kernels = *level().rank;
    std::vector<uint16_t> values(static_cast<size_t>(n_centers));
    std::vector<uint32_t> near(static_cast<size_t>(n_centers));
    for (int64_t i = n * task / n_tasks; i < n * (task + 1) / n_tasks; ++i) {
      stop_point(static_cast<double>(n_centers));
      kernels.rank_row(Score::hamming, rows + i * row_bytes, centers_.data(), n_centers, row_bytes, 0, values.data());
      uint16_t least = UINT16_MAX;
      for (const uint16_t value : values) least = value < least ? value : least;
      kernels.select_between(values.data(), n_centers, least, static_cast<uint16_t>(least + 1), near.data());
      center_of[static_cast<size_t>(i)] = static_cast<uint16_t>(near[0]);
      ring_of[static_cast<size_t>(i)] = least;
    }
  });
  // A counting sort by center and ring; inside a ring items stay in order.
  const int64_t row_length = n_rings + 1;
  begins_.assign(static_cast<size_t>(n_centers * row_length), 0);
  radii_.assign(static_cast<size_t>(n_centers), 0);
  const auto ring_at = [&](int64_t i) {
    return static_cast<size_t>(center_of[static_cast<size_t>(i)] * row_length + ring_of[static_cast<size_t>(i)]);
  };
  in_stretches(0, n, 2.0, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      ++begins_[ring_at(i)];
      uint16_t& radius = radii_[center_of[static_cast<size_t>(i)]];
      radius = std::max(radius, ring_of[static_cast<size_t>(i)]);
    }
  });
  uint32_t before = 0;
  for (uint32_t& begin : begins_) {
    const uint32_t here = begin;
    begin = before;
    before += here;
  }
  std::vector<uint32_t> next = begins_;
  // Not filled with zeros: that would take long in one piece, and each is written once.
  n_rows_ = n;
  rows_.reset(new uint8_t[static_cast<size_t>(n * row_bytes)]);
  items_.reset(new uint32_t[static_cast<size_t>(n)]);
  in_stretches(0, n, 10.0, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t place = next[ring_at(i)]++;
      items_[static_cast<size_t>(place)] = static_cast<uint32_t>(i);
      std::memcpy(rows_.get() + place * row_bytes, rows + i * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
  view_ = {rows_.get(), items_.get(), centers_.data(), begins_.data(), radii_.data(), n_centers, n_rings};
}

int64_t OwnedClusters::n_bytes() const {
  const int64_t row_bytes = (view_.n_rings - 1) / 8;
  return n_rows_ * (row_bytes + 4) + static_cast<int64_t>(centers_.size() + 4 * begins_.size() + 2 * radii_.size());
}

}  // namespace dshc::cpu
