#include "walk.h"

#include <algorithm>
#include <numeric>

namespace dshc::cpu {

namespace {

constexpr int64_t kMaxGroup = 128;               // queries; a block's way into the cache is shared by so many
constexpr int64_t kGroupStateBytes = 4 << 20;    // what the survivors of one group may take: it should stay cached
constexpr int64_t kSmallestShard = 1 << 15;      // items
constexpr double kWordNanoseconds = 0.1;         // a word of a pair, order of magnitude
constexpr double kWorthThreads = 40e3;           // ns of work from which waking other threads pays

void cut_database(const Pairs& pairs, int64_t shards, Tasks& tasks) {
  tasks.shard = std::max<int64_t>(pairs.n_db, 1);
  if (shards > 1) tasks.shard = std::max(kSmallestShard, divide_up(divide_up(pairs.n_db, shards), 64) * 64);
}

// Groups for the filter by bit planes, whose tables are shared by a group: as wide as threads and memory allow. False: they
// would come out too narrow, or the merging of shards would cost what they save. The figures are measured.
bool cut_for_planes(const Pairs& pairs, const FilterRow* by_planes, int64_t state_bytes, Tasks& tasks) {
  constexpr int64_t kNarrow = 64, kUsual = 128, kWidest = 512;  // queries
  // A group uses the memory of the one before it again; over few items new pages cost more than tables.
  constexpr int64_t kItemsForQuery = 1024;
  constexpr int64_t kStateBytes = 32 << 20;
  constexpr int64_t kLeastShardBytes = 2 << 20, kMostShardState = 72 << 10;
  const int64_t widest = std::min(std::clamp(pairs.n_db / kItemsForQuery, kNarrow, kWidest),
                                  kStateBytes / std::max<int64_t>(state_bytes, 1));
  const int64_t share = divide_up(pairs.n_query, tasks.n_threads);
  const int64_t wanted = std::max({divide_up(share, tasks.n_threads == 1 ? 1 : 2), std::min(share, kUsual), kNarrow});
  if (!by_planes || widest < by_planes->min_queries) return false;
  const int64_t n_groups =
      std::min(divide_up(pairs.n_query, std::min(wanted, widest)), pairs.n_query / by_planes->min_queries);
  const int64_t shards = divide_up(tasks.n_threads, n_groups);
  const int64_t shard_bytes = pairs.n_db / shards * WordShape(pairs.n_bytes).code_bytes();
  if (shards > 1 && (shard_bytes < kLeastShardBytes || state_bytes > kMostShardState)) return false;
  tasks.group = divide_up(pairs.n_query, n_groups);
  cut_database(pairs, shards, tasks);
  return true;
}

void cut_by_passes(const Pairs& pairs, const FilterRow& best, int64_t state_bytes, Tasks& tasks) {
  const int64_t tasks_wanted = tasks.n_threads == 1 ? 1 : 4 * tasks.n_threads;
  int64_t fair = divide_up(divide_up(pairs.n_query, tasks_wanted), kFilterQueries) * kFilterQueries;
  // Wider groups and more shards in their place, where nibbles make up for the merging of shards.
  constexpr int64_t kMostMergedState = 96 << 10, kGroupForNibbles = 16;
  if (tasks.n_threads > 1 && state_bytes <= kMostMergedState && pairs.n_db >= 2 * tasks.n_threads * kSmallestShard &&
      best.arrange) {
    fair = std::max(fair, kGroupForNibbles);
  }
  tasks.group = std::max<int64_t>(1, std::min({kMaxGroup, kGroupStateBytes / std::max<int64_t>(state_bytes, 1), fair}));
  const int64_t n_groups = divide_up(pairs.n_query, tasks.group), few = 2 * tasks.n_threads;
  const bool enough = tasks.n_threads == 1 || n_groups >= few;
  cut_database(pairs, enough ? 1 : divide_up(few, std::max<int64_t>(n_groups, 1)), tasks);
}

}  // namespace

Tasks cut_search(const Pairs& pairs, int64_t state_bytes, int n_threads) {
  const double work = static_cast<double>(pairs.n_query) * static_cast<double>(pairs.n_db) * kWordNanoseconds *
                      WordShape(pairs.n_bytes).n_words;
  Tasks tasks{};
  tasks.n_threads = work < kWorthThreads ? 1 : n_threads;
  const Filters filters = choose_filters(level(), pairs, pairs.n_query);
  if (!cut_for_planes(pairs, filters.by_planes(), state_bytes, tasks)) {
    cut_by_passes(pairs, filters.best(), state_bytes, tasks);
  }
  tasks.n_groups = divide_up(pairs.n_query, tasks.group);
  tasks.n_shards = divide_up(pairs.n_db, tasks.shard);
  return tasks;
}

FilterWalk::FilterWalk(const Pairs& pairs, int64_t begin, int64_t end)
    : pairs_(pairs), begin_(begin), filters_(choose_filters(level(), pairs, end - begin)),
      columns_(pairs, filters_, end - begin), shape_(columns_.shape()), words_(query_words(pairs, begin, end)),
      all_(static_cast<size_t>(end - begin)) {
  std::iota(all_.begin(), all_.end(), uint16_t{0});
  if (!filters_.by_planes()) return;
  plane_queries_.reset(new PlaneQueries(*filters_.by_planes()->planes, words_, end - begin));
  counted_ = all_;
}

}  // namespace dshc::cpu
