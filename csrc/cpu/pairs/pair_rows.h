// Pairs as rows: of each code the later ones it goes with, in order of (distance, number). And what room is left for more.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../kernels/filter.h"

namespace dshc::cpu {

struct FoundPair {
  uint32_t first, second;  // first < second
  uint16_t distance;
};

// Counts what is found, on all threads; throws a std::bad_alloc that says how much it is before memory runs out.
class PairRoom {
 public:
  PairRoom();
  void take(int64_t n_pairs) {
    const double all = static_cast<double>(found_.fetch_add(n_pairs, std::memory_order_relaxed) + n_pairs);
    if (all * kKeptBytes > bytes_) refuse(all, kKeptBytes);
  }
  // Of an answer whose size is known.
  void expect(double n_pairs) const {
    if (n_pairs * kAnswerBytes > bytes_) refuse(n_pairs, kAnswerBytes);
  }

 private:
  static constexpr double kAnswerBytes = 12.0;              // of a pair
  static constexpr double kKeptBytes = 8.0 + kAnswerBytes;  // and a key, or all of it once more while it waits for its row

  [[noreturn]] void refuse(double n_pairs, double pair_bytes) const;

  double bytes_;
  std::atomic<int64_t> found_{0};
};

// offsets[i]: where the row of code i begins among all. The rows of `group` codes lie beside each other.
struct PairRows {
  int64_t n = 0;
  int64_t* offsets = nullptr;  // [n + 1]
  int64_t group = 1;
  std::vector<std::unique_ptr<Key[]>> keys;

  const Key* row(int64_t i) const {
    return keys[static_cast<size_t>(i / group)].get() + (offsets[i] - offsets[i / group * group]);
  }
};

// Rows of pairs that were found in any order, each once.
PairRows rows_of_pairs(std::vector<std::vector<FoundPair>>&& found, int64_t n, int64_t* offsets, int n_threads);

}  // namespace dshc::cpu
