#include "blocks.h"

#include <algorithm>
#include <cstring>

namespace dshc::cpu {

namespace {
constexpr int64_t kMaxGroup = 16;                   // queries; a block's cost is shared by so many
constexpr int64_t kGroupStateBytes = 64 << 20;      // what the states of one group may take
constexpr int64_t kSmallestShard = 1 << 15;         // items
constexpr double kPairNanoseconds = 0.15;           // per 8 bytes, order of magnitude
constexpr double kWorthThreads = 40e3;              // ns of work from which waking other threads pays
}  // namespace

Tasks cut_scan(const Pairs& pairs, int64_t state_bytes, bool may_shard, int n_threads) {
  const double work = static_cast<double>(pairs.n_query) * static_cast<double>(pairs.n_db) * kPairNanoseconds *
                      static_cast<double>(divide_up(pairs.n_bytes, 8));
  Tasks tasks{};
  tasks.n_threads = work < kWorthThreads ? 1 : n_threads;
  const int64_t tasks_wanted = tasks.n_threads == 1 ? 1 : 4 * tasks.n_threads;
  tasks.group = std::max<int64_t>(1, std::min({kMaxGroup, kGroupStateBytes / std::max<int64_t>(state_bytes, 1),
                                              divide_up(pairs.n_query, tasks_wanted)}));
  tasks.n_groups = divide_up(pairs.n_query, tasks.group);
  tasks.shard = std::max<int64_t>(pairs.n_db, 1);
  if (may_shard && tasks.n_threads > 1 && tasks.n_groups < 2 * tasks.n_threads) {
    const int64_t shards = divide_up(2 * tasks.n_threads, std::max<int64_t>(tasks.n_groups, 1));
    tasks.shard = std::max(kSmallestShard, divide_up(divide_up(pairs.n_db, shards), 64) * 64);
  }
  tasks.n_shards = divide_up(pairs.n_db, tasks.shard);
  return tasks;
}

const uint8_t* StridedCodes::load(const uint8_t* codes, int64_t first, int64_t n) {
  const uint8_t* source = codes + first * n_bytes_;
  if (stride_ == n_bytes_) return source;
  const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(stride_);
  if (copy_.size() < bytes) copy_.assign(bytes, 0);  // the padding is written here, once
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(copy_.data() + i * stride_, source + i * n_bytes_, static_cast<size_t>(n_bytes_));
  }
  return copy_.data();
}

std::string number(int64_t n, const char* one) { return std::to_string(n) + " " + one + (n == 1 ? "" : "s"); }

std::string text(const Tasks& tasks) {
  return number(tasks.n_groups, "group") + " of " + std::to_string(tasks.group) + ", " + number(tasks.n_shards, "shard") +
         ", " + number(tasks.n_threads, "thread");
}

}  // namespace dshc::cpu
