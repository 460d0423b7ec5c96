#include "plan.h"

#include <algorithm>

namespace dshc::cpu {
namespace {

// Whether a row that reads codes as they lie can read these.
bool reads(const FilterRow& row, int32_t n_bytes, int32_t width) {
  if (row.n_bytes == kRagged) return n_bytes > 8 && n_bytes != width;
  return row.n_bytes > 0 ? n_bytes == row.n_bytes : n_bytes == width && width > 8;
}

Filters choose_filters(const Level& level, const Pairs& pairs, int64_t n_queries) {
  const int32_t width = WordShape(pairs.n_bytes).code_bytes();
  Filters filters;
  int n = 0;
  for (const FilterRow* row = level.filters;; ++row) {
    const bool fits = (row->width == 0 || row->width == width) && (row->scores & score_bit(pairs.score)) &&
                      n_queries >= row->min_queries && n_queries <= row->max_queries &&
                      (!row->reads_codes || reads(*row, pairs.n_bytes, width)) &&
                      (n == 0 || row->reads_codes == filters.best().reads_codes) &&  // all read the block as it was loaded
                      !(row->arrange && n > 0 && filters.best().planes);
    if (!fits) continue;
    filters.rows[n++] = row;
    if (row->max_bound == kNoMaxBound) return filters;
  }
}

// Bytes of an item as a row filters it.
int64_t item_bytes(const FilterRow& row, int32_t n_bytes) {
  return row.arrange ? n_nibbles(n_bytes) : WordShape(n_bytes).code_bytes();
}

int64_t block_items(const FilterRow& row, int32_t n_bytes) {
  const BlockLength& block = row.block;
  return std::clamp(block.bytes / item_bytes(row, n_bytes) / block.multiple * block.multiple, block.multiple, block.most);
}

WalkPlan choose_walk(const Level& level, const Pairs& pairs, int64_t n_queries) {
  constexpr int64_t kWorthCopy = 16, kWorthShortBlocks = 4;  // queries
  const WordShape shape(pairs.n_bytes);
  WalkPlan walk;
  walk.filters = choose_filters(level, pairs, n_queries);
  walk.in_place = walk.filters.best().reads_codes || (!walk.filters.best().arrange && n_queries < kWorthCopy &&
                                                      shape.n_words == 1 && pairs.n_bytes == shape.word_bytes);
  // The end of each block waits for its last loads; in place they come from far, so there should be few ends.
  walk.block_items = walk.in_place && n_queries < kWorthShortBlocks ? kMostBlockItems
                                                                    : block_items(walk.filters.best(), pairs.n_bytes);
  return walk;
}

constexpr int64_t kMaxGroup = 128;               // queries; a block's way into the cache is shared by so many
constexpr int64_t kGroupStateBytes = 4 << 20;    // what the survivors of one group may take: it should stay cached
constexpr int64_t kSmallestShard = 1 << 15;      // items
// What a query keeps of a shard, in bytes: so much costs little to merge, and beyond so much it costs more than it saves.
constexpr int64_t kSmallState = 72 << 10, kMostMergedState = 96 << 10;
constexpr double kWordNanoseconds = 0.1;         // a word of a pair, order of magnitude
constexpr double kWorthThreads = 40e3;           // ns of work from which waking other threads pays

void cut_database(const Pairs& pairs, int64_t shards, Tasks& tasks) {
  tasks.shard = std::max<int64_t>(pairs.n_db, 1);
  if (shards > 1) tasks.shard = std::max(kSmallestShard, divide_up(divide_up(pairs.n_db, shards), 64) * 64);
}

// Groups for the filter by bit planes, whose tables each group makes anew (they cost as much as some fifty queries): as wide
// as memory allows, and where that makes too few of them for the threads, shards of the database if merging costs little. False:
// groups would come out too narrow, or merging would cost what they save. The figures are measured.
bool cut_for_planes(const Pairs& pairs, const FilterRow* by_planes, int64_t state_bytes, Tasks& tasks) {
  constexpr int64_t kNarrow = 64, kUsual = 128, kWidest = 512;  // queries
  constexpr int64_t kFewest = 48;  // of several groups; and that memory must allow, or popcounts of fewer keep their state cached
  // A group uses the memory of the one before it again; over few items new pages cost more than tables.
  constexpr int64_t kItemsForQuery = 1024;
  constexpr int64_t kStateBytes = 32 << 20;
  constexpr int64_t kLeastShardBytes = 2 << 20;
  const int64_t widest = std::min(std::clamp(pairs.n_db / kItemsForQuery, kNarrow, kWidest),
                                  kStateBytes / std::max<int64_t>(state_bytes, 1));
  if (!by_planes || widest < std::max<int64_t>(by_planes->min_queries, kFewest)) return false;
  const int64_t n_threads = tasks.n_threads, share = divide_up(pairs.n_query, n_threads);
  const int64_t fewest = divide_up(pairs.n_query, widest);
  int64_t n_groups = divide_up(fewest, n_threads) * n_threads, shards = 1;
  if (fewest < n_threads) {
    const int64_t db_bytes = pairs.n_db * WordShape(pairs.n_bytes).code_bytes();
    const int64_t most = state_bytes > kSmallState ? 1 : std::min(db_bytes / kLeastShardBytes, pairs.n_db / kSmallestShard);
    shards = std::clamp<int64_t>(most, 1, divide_up(n_threads, fewest));
    const int64_t wanted = shards > 1 ? divide_up(pairs.n_query, divide_up(n_threads, shards))
                                      : std::max({divide_up(share, 2), std::min(share, kUsual), kNarrow});
    n_groups = divide_up(pairs.n_query, std::min(wanted, widest));
  }
  n_groups = std::min(n_groups, pairs.n_query / by_planes->min_queries);
  const int64_t group = divide_up(pairs.n_query, n_groups);
  if (n_groups * shards < n_threads || (n_groups > 1 && group < kFewest)) return false;
  tasks.group = group;
  cut_database(pairs, shards, tasks);
  return true;
}

// Groups whose queries share blocks that are copied or come from far, each over shards for all threads: where passes of a
// few queries would make many groups. False: the merging of shards would cost what that saves. The figures are measured.
bool cut_for_sharing(const Pairs& pairs, int64_t state_bytes, Tasks& tasks) {
  constexpr int64_t kFewest = 8, kWidest = 48;  // queries
  constexpr int64_t kMostMergedBytes = 64 << 20;
  constexpr int64_t kShardBytes = 1 << 20, kShardBytesForState = 3 << 20;
  const int64_t n_threads = tasks.n_threads;
  int64_t n_groups = divide_up(pairs.n_query, kWidest), shards = 1;
  if (2 * n_groups > n_threads) {
    n_groups = divide_up(n_groups, n_threads) * n_threads;
  } else {
    shards = n_threads % n_groups == 0 ? n_threads / n_groups : divide_up(2 * n_threads, n_groups);
  }
  const int64_t shard_bytes = pairs.n_db / shards * WordShape(pairs.n_bytes).code_bytes();
  if (pairs.n_query < kFewest || state_bytes > kMostMergedState ||
      (shards > 1 && pairs.n_query * shards * state_bytes > kMostMergedBytes) ||
      pairs.n_db / shards < kSmallestShard ||
      shard_bytes < (state_bytes <= kSmallState ? kShardBytes : kShardBytesForState)) {
    return false;
  }
  tasks.group = divide_up(pairs.n_query, n_groups);
  cut_database(pairs, shards, tasks);
  return true;
}

void cut_by_passes(const Pairs& pairs, const Level& level, int64_t state_bytes, Tasks& tasks) {
  const int64_t tasks_wanted = tasks.n_threads == 1 ? 1 : 4 * tasks.n_threads;
  int64_t fair = divide_up(divide_up(pairs.n_query, tasks_wanted), kFilterQueries) * kFilterQueries;
  constexpr int64_t kWideEnough = 32;
  const bool arranged = choose_filters(level, pairs, pairs.n_query).best().arrange;
  if (tasks.n_threads > 1 && fair < kWideEnough && !arranged && cut_for_sharing(pairs, state_bytes, tasks)) return;
  // Wider groups and more shards in their place, where nibbles or planes make up for the merging of shards.
  constexpr int64_t kGroupThatShares = 16;
  const FilterRow& shared = choose_filters(level, pairs, std::min(pairs.n_query, kGroupThatShares)).best();
  if (tasks.n_threads > 1 && state_bytes <= kMostMergedState && pairs.n_db >= 2 * tasks.n_threads * kSmallestShard &&
      (shared.arrange || shared.planes)) {
    fair = std::max(fair, kGroupThatShares);
  }
  tasks.group = std::max<int64_t>(1, std::min({kMaxGroup, kGroupStateBytes / std::max<int64_t>(state_bytes, 1), fair}));
  const int64_t n_groups = divide_up(pairs.n_query, tasks.group), few = 2 * tasks.n_threads;
  const bool enough = tasks.n_threads == 1 || n_groups >= few;
  cut_database(pairs, enough ? 1 : divide_up(few, std::max<int64_t>(n_groups, 1)), tasks);
}

Tasks cut_search(const Pairs& pairs, const Level& level, int64_t state_bytes, int n_threads) {
  const double work = static_cast<double>(pairs.n_query) * static_cast<double>(pairs.n_db) * kWordNanoseconds *
                      WordShape(pairs.n_bytes).n_words;
  Tasks tasks{};
  tasks.n_threads = work < kWorthThreads ? 1 : n_threads;
  const Filters filters = choose_filters(level, pairs, pairs.n_query);
  if (!cut_for_planes(pairs, filters.by_planes(), state_bytes, tasks)) {
    cut_by_passes(pairs, level, state_bytes, tasks);
  }
  tasks.group = std::min(tasks.group, pairs.n_query);
  tasks.n_groups = divide_up(pairs.n_query, tasks.group);
  tasks.n_shards = divide_up(pairs.n_db, tasks.shard);
  return tasks;
}

// Of what share of the database on filtering no longer pays.
constexpr int64_t kWorthWhole = 4;

Tasks cut_by_queries(const Pairs& pairs, int n_threads) {
  constexpr int64_t kTasksPerThread = 4;
  Tasks tasks{};
  tasks.n_threads = n_threads;
  tasks.group = n_threads == 1 ? pairs.n_query : divide_up(pairs.n_query, kTasksPerThread * n_threads);
  tasks.n_groups = divide_up(pairs.n_query, tasks.group);
  tasks.shard = pairs.n_db;
  tasks.n_shards = 1;
  return tasks;
}

// With few queries the sample costs more than it saves, with a small k the bound falls fast enough by itself.
int64_t sample_items(const Pairs& pairs, int64_t k) {
  constexpr int64_t kMostItems = 1 << 14, kShareOfDatabase = 32;
  constexpr int64_t kFewestItems = 1024, kFewestQueries = 8, kSmallestK = 64;
  const int64_t n_items = std::min(kMostItems, pairs.n_db / kShareOfDatabase / kSampleRun * kSampleRun);
  const bool pays = n_items >= kFewestItems && pairs.n_query >= kFewestQueries && k >= kSmallestK && k <= pairs.n_db / 16;
  return pays ? n_items : 0;
}

Plan plan_search(const Pairs& pairs, int64_t state_bytes, bool codes_repeat, const Level& level, int n_threads) {
  Plan plan{};
  plan.level = &level;
  plan.route = pairs.n_query == 0 || pairs.n_db == 0 ? Route::empty : codes_repeat ? Route::grouped : Route::filtered;
  if (plan.route != Route::filtered) return plan;
  plan.tasks = cut_search(pairs, level, state_bytes, n_threads);
  plan.walk = choose_walk(level, pairs, plan.tasks.group);
  return plan;
}

}  // namespace

Plan plan_topk(const Pairs& pairs, int64_t k, bool codes_repeat, const Level& level, int n_threads) {
  Plan plan = plan_search(pairs, 8 * (2 * k + 8192), codes_repeat, level, n_threads);
  if (plan.route == Route::filtered && !pairs.allowed && k >= pairs.n_db / kWorthWhole) {
    plan.route = Route::whole;
    plan.tasks = cut_by_queries(pairs, n_threads);
    return plan;
  }
  if (plan.route == Route::filtered) plan.sample_items = sample_items(pairs, k);
  return plan;
}

Plan plan_radius(const Pairs& pairs, int32_t limit, bool codes_repeat, const Level& level, int n_threads) {
  Plan plan = plan_search(pairs, 1, codes_repeat, level, n_threads);
  if (limit <= 0) plan.route = Route::empty;
  return plan;
}

Plan plan_sample(const Pairs& sample, const Level& level, int n_threads) {
  return plan_search(sample, 0, false, level, n_threads);
}

WalkPlan plan_walk(const Plan& plan, const Pairs& pairs, int64_t n_queries) {
  return n_queries == plan.tasks.group ? plan.walk : choose_walk(*plan.level, pairs, n_queries);
}

const FilterRow* filter_in_place(const Level& level, const Pairs& pairs) {
  const WalkPlan walk = choose_walk(level, pairs, 1);
  const FilterRow* const* row = walk.filters.by_pass();
  while ((*row)->max_bound != kNoMaxBound) ++row;
  return walk.in_place && !(*row)->arrange ? *row : nullptr;
}

std::string text(const Plan& plan) {
  std::string words = std::string(plan.level->name) + ": ";
  if (plan.route == Route::empty) return words + "nothing to find";
  if (plan.route == Route::grouped) return words + "ranked by distinct codes";
  if (plan.route == Route::whole) return words + "ranked whole; " + text(plan.tasks);
  const char* before = "filtered by ";
  for (const FilterRow* row : plan.walk.filters.rows) {
    if (!row) break;
    const int32_t of = row->n_bytes > 0 ? row->n_bytes : row->width;
    words += before + std::string(row->name) + (of ? " of " + std::to_string(8 * of) + " bits" : "");
    before = ", ";
  }
  words += "; blocks of " + number(plan.walk.block_items, "item") + (plan.walk.in_place ? " in place" : "");
  words += "; " + text(plan.tasks);
  if (plan.sample_items > 0) words += "; bounds guessed from " + number(plan.sample_items, "item");
  return words;
}

}  // namespace dshc::cpu
