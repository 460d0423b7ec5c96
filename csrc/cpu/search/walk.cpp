#include "walk.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace dshc::cpu {

namespace {

constexpr int64_t kMaxGroup = 128;               // queries; a block's way into the cache is shared by so many
constexpr int64_t kGroupStateBytes = 4 << 20;    // what the survivors of one group may take: it should stay cached
constexpr int64_t kSmallestShard = 1 << 15;      // items
constexpr double kWordNanoseconds = 0.1;         // a word of a pair, order of magnitude
constexpr double kWorthThreads = 40e3;           // ns of work from which waking other threads pays

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

void cut_database(const Pairs& pairs, int64_t shards, Plan& plan) {
  plan.shard = std::max<int64_t>(pairs.n_db, 1);
  if (shards > 1) plan.shard = std::max(kSmallestShard, divide_up(divide_up(pairs.n_db, shards), 64) * 64);
}

// Groups for the filter by bit planes, whose tables are shared by a group: as wide as threads and memory allow. False: they
// would come out too narrow, or the merging of shards would cost what they save. The figures are measured.
bool cut_for_planes(const Pairs& pairs, int64_t state_bytes, Plan& plan) {
  constexpr int64_t kNarrow = 64, kUsual = 128, kWidest = 512;  // queries
  // A group uses the memory of the one before it again; over few items new pages cost more than tables.
  constexpr int64_t kItemsForQuery = 1024;
  constexpr int64_t kStateBytes = 32 << 20;
  constexpr int64_t kLeastShardBytes = 2 << 20, kMostShardState = 72 << 10;
  const int64_t widest = std::min(std::clamp(pairs.n_db / kItemsForQuery, kNarrow, kWidest),
                                  kStateBytes / std::max<int64_t>(state_bytes, 1));
  const int64_t share = divide_up(pairs.n_query, plan.n_threads);
  const int64_t wanted = std::max({divide_up(share, plan.n_threads == 1 ? 1 : 2), std::min(share, kUsual), kNarrow});
  if (widest < kFewestPlaneQueries || !plane_filter(pairs, pairs.n_query)) return false;
  const int64_t n_groups =
      std::min(divide_up(pairs.n_query, std::min(wanted, widest)), pairs.n_query / kFewestPlaneQueries);
  const int64_t shards = divide_up(plan.n_threads, n_groups);
  const int64_t shard_bytes = pairs.n_db / shards * WordShape(pairs.n_bytes).code_bytes();
  if (shards > 1 && (shard_bytes < kLeastShardBytes || state_bytes > kMostShardState)) return false;
  plan.group = divide_up(pairs.n_query, n_groups);
  cut_database(pairs, shards, plan);
  return true;
}

void cut_counted(const Pairs& pairs, int64_t state_bytes, Plan& plan) {
  const int64_t tasks_wanted = plan.n_threads == 1 ? 1 : 4 * plan.n_threads;
  int64_t fair = divide_up(divide_up(pairs.n_query, tasks_wanted), kFilterQueries) * kFilterQueries;
  // Wider groups and more shards in their place, where nibbles make up for the merging of shards.
  constexpr int64_t kMostMergedState = 96 << 10, kGroupForNibbles = 16;
  if (plan.n_threads > 1 && state_bytes <= kMostMergedState && pairs.n_db >= 2 * plan.n_threads * kSmallestShard &&
      nibbles_pay(pairs, pairs.n_query)) {
    fair = std::max(fair, kGroupForNibbles);
  }
  plan.group = std::max<int64_t>(1, std::min({kMaxGroup, kGroupStateBytes / std::max<int64_t>(state_bytes, 1), fair}));
  const int64_t n_groups = divide_up(pairs.n_query, plan.group), few = 2 * plan.n_threads;
  const bool enough = plan.n_threads == 1 || n_groups >= few;
  cut_database(pairs, enough ? 1 : divide_up(few, std::max<int64_t>(n_groups, 1)), plan);
}

}  // namespace

Plan make_filter_plan(const Pairs& pairs, int64_t state_bytes, int n_threads) {
  const double work = static_cast<double>(pairs.n_query) * static_cast<double>(pairs.n_db) * kWordNanoseconds *
                      WordShape(pairs.n_bytes).n_words;
  Plan plan{};
  plan.n_threads = work < kWorthThreads ? 1 : n_threads;
  if (!cut_for_planes(pairs, state_bytes, plan)) cut_counted(pairs, state_bytes, plan);
  plan.n_groups = divide_up(pairs.n_query, plan.group);
  plan.n_shards = divide_up(pairs.n_db, plan.shard);
  return plan;
}

namespace {

// Word w of a code that starts at `code`; `rest`: bytes of the database from there on.
uint64_t padded_word(const uint8_t* code, int32_t n_bytes, int32_t w, int64_t rest) {
  const int32_t bytes = std::min(n_bytes - 8 * w, 8);
  uint64_t word = 0;
  if (rest >= 8 * w + 8) {
    std::memcpy(&word, code + 8 * w, 8);
    return bytes == 8 ? word : word & ((uint64_t{1} << 8 * bytes) - 1);
  }
  std::memcpy(&word, code + 8 * w, static_cast<size_t>(bytes));
  return word;
}

}  // namespace

bool nibbles_pay(const Pairs& pairs, int64_t n_queries) {
  constexpr int64_t kFewestQueries = 8;  // measured: from six on it pays, with four cutting a block costs what it saves
  return simd().filter->to_nibbles && 2 * pairs.n_bytes <= kMostTiledNibbles && n_queries >= kFewestQueries;
}

int64_t tiled_items(int32_t n_bytes) {
  // Read in order, so that the second-level cache serves as well as the first; a longer block has fewer ends.
  constexpr int64_t kBlockBytes = 32 << 10;
  return std::min<int64_t>(kBlockBytes / (2 * n_bytes) / kTileItems * kTileItems, kMostTiledItems);
}

const uint8_t* BlockColumns::nibbles(const FilterPass& pass) {
  const int32_t bound = *std::max_element(pass.bounds, pass.bounds + pass.n_queries);
  if (!tiled_ || bound > most_tiled_bound(pass.n_bytes)) return nullptr;
  if (!nibbles_) nibbles_.reset(new Line[static_cast<size_t>(block_ * 2 * pairs_.n_bytes / 64)]);
  uint8_t* nibbles = reinterpret_cast<uint8_t*>(nibbles_.get());
  if (!cut_) simd().filter->to_nibbles(pass, nibbles);
  cut_ = true;
  return nibbles;
}

const uint8_t* BlockColumns::load(int64_t first, int64_t n) {
  const int32_t n_bytes = pairs_.n_bytes, n_words = shape_.n_words;
  const uint8_t* codes = pairs_.database + first * n_bytes;
  const bool whole_words = n_bytes == shape_.code_bytes();
  if (in_place_) return codes;
  cut_ = false;
  if (!columns_) columns_.reset(new Line[static_cast<size_t>(block_ * shape_.code_bytes() / 64)]);
  uint64_t* columns = columns_[0].words;
  const int64_t all = (pairs_.n_db - first) * n_bytes;
  if (whole_words && n_words == 1) {
    std::memcpy(columns, codes, static_cast<size_t>(n * n_bytes));
  } else if (shape_.word_bytes == 4) {
    auto* halves = reinterpret_cast<uint32_t*>(columns);
    for (int64_t i = 0; i < n; ++i) {
      halves[i] = static_cast<uint32_t>(padded_word(codes + i * n_bytes, n_bytes, 0, all - i * n_bytes));
    }
  } else if (whole_words) {
    simd().filter->to_columns(codes, n, n_words, columns, block_);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      for (int32_t w = 0; w < n_words; ++w) {
        columns[w * block_ + i] = padded_word(codes + i * n_bytes, n_bytes, w, all - i * n_bytes);
      }
    }
  }
  return reinterpret_cast<const uint8_t*>(columns);
}

std::vector<uint64_t> query_words(const Pairs& pairs, int64_t begin, int64_t end) {
  const int32_t n_words = WordShape(pairs.n_bytes).n_words;
  std::vector<uint64_t> words(static_cast<size_t>((end - begin) * n_words), 0);
  for (int64_t q = begin; q < end; ++q) {
    // A word of four bytes lies in the first half of its eight.
    std::memcpy(words.data() + (q - begin) * n_words, pairs.queries + q * pairs.n_bytes, static_cast<size_t>(pairs.n_bytes));
  }
  return words;
}

FilterWalk::FilterWalk(const Pairs& pairs, int64_t begin, int64_t end)
    : pairs_(pairs), begin_(begin), kernels_(*simd().filter), columns_(pairs, end - begin), shape_(columns_.shape()),
      words_(query_words(pairs, begin, end)), all_(static_cast<size_t>(end - begin)) {
  std::iota(all_.begin(), all_.end(), uint16_t{0});
  const PlaneFilterKernels* kernels = plane_filter(pairs, end - begin);
  if (!kernels) return;
  plane_queries_.reset(new PlaneQueries(*kernels, words_, end - begin));
  counted_ = all_;
}

}  // namespace dshc::cpu
