#include "scan.h"

#include <algorithm>
#include <cstring>

namespace dshc::cpu {

namespace {
constexpr int64_t kMaxGroup = 16;                   // queries; a block's cost is shared by so many
constexpr int64_t kGroupStateBytes = 64 << 20;      // what the states of one group may take
constexpr int64_t kSmallestShard = 1 << 15;         // items
constexpr double kPairNanoseconds = 0.15;           // per 8 bytes, order of magnitude
constexpr double kWorthThreads = 40e3;              // ns of work from which waking other threads pays

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
}  // namespace

Plan make_plan(const Pairs& pairs, int64_t state_bytes, bool may_shard, int n_threads) {
  const double work = static_cast<double>(pairs.n_query) * static_cast<double>(pairs.n_db) * kPairNanoseconds *
                      static_cast<double>(divide_up(pairs.n_bytes, 8));
  Plan plan{};
  plan.n_threads = work < kWorthThreads ? 1 : n_threads;
  const int64_t tasks_wanted = plan.n_threads == 1 ? 1 : 4 * plan.n_threads;
  plan.group = std::max<int64_t>(1, std::min({kMaxGroup, kGroupStateBytes / std::max<int64_t>(state_bytes, 1),
                                              divide_up(pairs.n_query, tasks_wanted)}));
  plan.n_groups = divide_up(pairs.n_query, plan.group);
  plan.shard = std::max<int64_t>(pairs.n_db, 1);
  if (may_shard && plan.n_threads > 1 && plan.n_groups < 2 * plan.n_threads) {
    const int64_t shards = divide_up(2 * plan.n_threads, std::max<int64_t>(plan.n_groups, 1));
    plan.shard = std::max(kSmallestShard, divide_up(divide_up(pairs.n_db, shards), 64) * 64);
  }
  plan.n_shards = divide_up(pairs.n_db, plan.shard);
  return plan;
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

int64_t block_items(int32_t stride) {
  constexpr int64_t kBlockBytes = 16 << 10;
  return std::clamp<int64_t>(kBlockBytes / stride / 64 * 64, 64, 2048);
}

void mark_not_allowed(const uint8_t* allowed, int64_t first, int64_t n, uint16_t mark, uint16_t* row) {
  const uint8_t* bytes = allowed + first / 8;  // `first` is a multiple of 64
  for (int64_t i = 0; i < n; i += 8) {
    const uint32_t bits = bytes[i / 8];
    if (bits == 0xFF) continue;
    const int64_t end = std::min<int64_t>(8, n - i);
    for (int64_t j = 0; j < end; ++j) {
      if (!(bits >> j & 1)) row[i + j] = mark;
    }
  }
}

}  // namespace dshc::cpu
