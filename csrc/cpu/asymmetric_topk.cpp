#include "../core/asymmetric_topk.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "call/blocks.h"
#include "call/call.h"
#include "call/float_mode.h"
#include "call/fresh_memory.h"
#include "call/threads.h"
#include "kernels/level.h"
#include "logits/first_fault.h"
#include "logits/float_rows.h"
#include "search/members.h"
#include "search/nearest.h"
#include "search/weighted_query.h"

namespace dshc::cpu {
namespace {

constexpr double kByteNanoseconds = 0.02;  // of a pair, order of magnitude

// Outputs of one query as float32.
class OutputRow {
 public:
  explicit OutputRow(const AsymmetricPairs& pairs) : pairs_(pairs), kernels_(*level().floats) {}
  const float* load(int64_t query) {
    if (pairs_.dtype != DType::float64) {
      return float_row(kernels_, pairs_.outputs, pairs_.dtype, query, pairs_.n_bits, buffer_);
    }
    const auto* row = reinterpret_cast<const double*>(row_start(pairs_.outputs, pairs_.dtype, query, pairs_.n_bits));
    buffer_.assign(row, row + pairs_.n_bits);
    return buffer_.data();
  }

 private:
  const AsymmetricPairs& pairs_;
  const FloatKernels& kernels_;
  std::vector<float> buffer_;
};

void look_for_nan(const AsymmetricPairs& pairs, FirstFault* nan, int n_threads) {
  const int64_t n_tasks = task_count(pairs.n_query, 0.3 * pairs.n_bits, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    OutputRow outputs(pairs);
    const int64_t end = pairs.n_query * (task + 1) / n_tasks;
    for (int64_t query = pairs.n_query * task / n_tasks; query < end; ++query) {
      if (any_nan(*level().floats, outputs.load(query), pairs.n_bits)) nan->note(query);
    }
  });
}

// Queries share the tiles of a block; where there are few queries, shards of the database are tasks of their own.
Tasks cut(const AsymmetricPairs& pairs, int64_t k, int n_threads) {
  constexpr int64_t kMostGroup = 128, kFewQueries = 8;               // a thread
  constexpr int64_t kTableBytes = 4 << 20, kKeptBytes = 256 << 20;   // of a group
  constexpr int64_t kSmallestShard = 1 << 15;
  constexpr double kWorthThreads = 40e3;  // ns
  const double work = static_cast<double>(pairs.n_query) * static_cast<double>(pairs.n_db) * pairs.n_bytes * kByteNanoseconds;
  Tasks tasks{};
  tasks.n_threads = work < kWorthThreads ? 1 : n_threads;
  const int64_t kept = static_cast<int64_t>(sizeof(Candidate)) * std::min(2 * k, pairs.n_db);
  const int64_t most = std::max<int64_t>(1, std::min({kMostGroup, kTableBytes / (160 * pairs.n_bytes), kKeptBytes / kept}));
  const bool shares = tasks.n_threads > 1 && pairs.n_query < kFewQueries * tasks.n_threads;
  tasks.group = std::min(most, shares ? pairs.n_query : divide_up(pairs.n_query, tasks.n_threads));
  tasks.n_groups = divide_up(pairs.n_query, tasks.group);
  const int64_t shards = shares ? std::max<int64_t>(1, std::min<int64_t>(2 * tasks.n_threads, pairs.n_db / (2 * k))) : 1;
  const int64_t smallest = shards > 1 ? kSmallestShard : 1;
  tasks.shard = divide_up(std::max(divide_up(pairs.n_db, shards), smallest), kWeightedTile) * kWeightedTile;
  tasks.n_shards = divide_up(pairs.n_db, tasks.shard);
  return tasks;
}

// Neighbouring items as tiles.
class Block {
 public:
  Block(const AsymmetricPairs& pairs, int64_t shard_items)
      : pairs_(pairs),
        items_(std::clamp(kBytes / (2 * pairs.n_bytes) / kWeightedTile * kWeightedTile, int64_t{kWeightedTile},
                          divide_up(shard_items, kWeightedTile) * kWeightedTile)),
        tiles_(new Line[static_cast<size_t>(items_ / kWeightedTile * 2 * pairs.n_bytes)]) {}

  int64_t items() const { return items_; }
  void load(int64_t first, int64_t n) {
    first_ = first;
    n_ = n;
    level().asymmetric->arrange(pairs_.database + first * pairs_.stride, n, pairs_.n_bytes, pairs_.stride, tiles_[0].bytes);
  }
  int64_t first() const { return first_; }
  int64_t size() const { return n_; }
  int64_t n_tiles() const { return divide_up(n_, kWeightedTile); }
  const uint8_t* tiles() const { return tiles_[0].bytes; }

 private:
  static constexpr int64_t kBytes = 24 << 10;
  struct alignas(64) Line {
    uint8_t bytes[kWeightedTile];
  };
  const AsymmetricPairs& pairs_;
  int64_t items_, first_ = 0, n_ = 0;
  std::unique_ptr<Line[]> tiles_;
};

// Tiles of the whole database, evenly spread, that tell where the k-th distance will be. With a small k the limit falls fast
// enough by itself.
class Sample {
 public:
  Sample(const AsymmetricPairs& pairs, int64_t k) : n_bytes_(pairs.n_bytes) {
    constexpr int64_t kMostTiles = 256, kShareOfDatabase = 32;
    constexpr double kFewestBest = 8;
    const int64_t n_tiles = std::min(kMostTiles, pairs.n_db / (kShareOfDatabase * kWeightedTile));
    // So many of the k best are in the sample, give or take a root.
    const double best = static_cast<double>(k) * static_cast<double>(n_tiles * kWeightedTile) / static_cast<double>(pairs.n_db);
    if (pairs.allowed || best < kFewestBest) return;
    rank_ = static_cast<int64_t>(best + 4 * std::sqrt(best)) + 2;
    if (2 * rank_ > n_tiles * kWeightedTile) return;
    n_tiles_ = n_tiles;
    const int64_t tile_bytes = int64_t{2} * n_bytes_ * kWeightedTile;
    tiles_.resize(static_cast<size_t>(n_tiles * tile_bytes));
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
      const int64_t first = pairs.n_db / kWeightedTile * tile / n_tiles * kWeightedTile;
      level().asymmetric->arrange(pairs.database + first * pairs.stride, kWeightedTile, n_bytes_, pairs.stride,
                                  tiles_.data() + tile * tile_bytes);
    }
    sums_.resize(static_cast<size_t>(n_tiles * kWeightedTile));
  }

  // Most likely k items lie below it.
  uint32_t likely_limit(const WeightedQuery& query) {
    if (n_tiles_ == 0) return kNoLimit;
    stop_point(kByteNanoseconds * static_cast<double>(n_tiles_ * kWeightedTile * n_bytes_));
    level().asymmetric->distances(query.tables(), tiles_.data(), n_tiles_, n_bytes_, sums_.data());
    const auto nth = sums_.begin() + rank_;
    std::nth_element(sums_.begin(), nth, sums_.end());
    return bits_of(*nth) + 1;
  }

 private:
  int32_t n_bytes_;
  int64_t rank_ = 0, n_tiles_ = 0;
  std::vector<uint8_t> tiles_;
  std::vector<float> sums_;
};

// A query on its way through a shard.
class Scan {
 public:
  // A null sample: nobody guesses.
  Scan(const AsymmetricPairs& pairs, int64_t k, int64_t query, const float* outputs, Sample* sample)
      : pairs_(pairs),
        allowed_(pairs.allowed ? pairs.allowed + query * pairs.allowed_stride : nullptr),
        query_(outputs, pairs.n_bits, pairs.n_bytes),
        nearest_(k, sample ? sample->likely_limit(query_) : kNoLimit),
        filters_(nearest_.limit() < kInfinityBits) {}

  Nearest& nearest() { return nearest_; }

  // `sums` and `positions` have room for a block.
  void pass(const Block& block, float* sums, uint32_t* positions) {
    if (nearest_.limit() == 0) return;  // k items at distance 0, and all others are later
    const AsymmetricKernels& kernels = *level().asymmetric;
    int64_t looked_at = 0;
    if (filters_ && kernels.select) {
      const uint32_t limit = query_.limit_of(distance_of(nearest_.limit()));
      looked_at = kernels.select(query_.bounds(), block.tiles(), block.n_tiles(), pairs_.n_bytes, limit, positions);
      while (looked_at > 0 && positions[looked_at - 1] >= block.size()) --looked_at;
      const uint8_t* codes = pairs_.database + block.first() * pairs_.stride;
      // Apart, because no one can foretell which items pass, and no sum should wait for it.
      for (int64_t i = 0; i < looked_at; ++i) sums[i] = query_.distance(codes + positions[i] * pairs_.stride);
      for (int64_t i = 0; i < looked_at; ++i) {
        const int64_t item = block.first() + positions[i];
        if (is_allowed(item)) nearest_.take(bits_of(sums[i]), item);
      }
    } else {
      kernels.distances(query_.tables(), block.tiles(), block.n_tiles(), pairs_.n_bytes, sums);
      for (int64_t i = 0; i < block.size(); ++i) {
        const uint32_t bits = bits_of(sums[i]);
        if (bits >= nearest_.limit() || !is_allowed(block.first() + i)) continue;
        nearest_.take(bits, block.first() + i);
        ++looked_at;
      }
      nearest_.settle();
    }
    // One item looked up alone costs as much as a dozen in vectors, by distance.
    constexpr int64_t kWorthFilter = 16;
    filters_ = nearest_.limit() < kInfinityBits && kWorthFilter * looked_at < block.size();
  }

 private:
  bool is_allowed(int64_t item) const { return !allowed_ || (allowed_[item / 8] >> (item % 8) & 1); }

  const AsymmetricPairs& pairs_;
  const uint8_t* allowed_;
  WeightedQuery query_;
  Nearest nearest_;
  bool filters_;
};

std::vector<Scan> scan_shard(const AsymmetricPairs& pairs, int64_t k, int64_t first_query, int64_t end_query, int64_t begin,
                             int64_t end, Sample* sample) {
  std::vector<Scan> scans;
  scans.reserve(static_cast<size_t>(end_query - first_query));
  OutputRow outputs(pairs);
  for (int64_t query = first_query; query < end_query; ++query) {
    scans.emplace_back(pairs, k, query, outputs.load(query), sample);
  }
  Block block(pairs, end - begin);
  std::vector<float> sums(static_cast<size_t>(block.items()));
  std::vector<uint32_t> positions(static_cast<size_t>(block.items()));
  for (int64_t first = begin; first < end; first += block.items()) {
    block.load(first, std::min(block.items(), end - first));
    for (Scan& scan : scans) {
      stop_point(kByteNanoseconds * static_cast<double>(block.size() * pairs.n_bytes));
      scan.pass(block, sums.data(), positions.data());
    }
  }
  return scans;
}

void write(Nearest& nearest, int64_t k, float* distances, int64_t* indices) {
  const std::vector<Candidate>& found = nearest.finish();
  const auto n = static_cast<int64_t>(found.size());
  constexpr double kWriteNanoseconds = 3;  // to new pages, as a large result has
  in_stretches(0, n, kWriteNanoseconds, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      distances[i] = distance_of(found[static_cast<size_t>(i)].bits);
      indices[i] = found[static_cast<size_t>(i)].index;
    }
  });
  in_stretches(n, k, kWriteNanoseconds, [&](int64_t first, int64_t last) {
    std::fill(distances + first, distances + last, std::numeric_limits<float>::infinity());
    std::fill(indices + first, indices + last, int64_t{-1});
  });
}

void search(const AsymmetricPairs& pairs, int64_t k, float* distances, int64_t* indices, int n_threads) {
  const Tasks tasks = cut(pairs, k, n_threads);
  std::vector<std::vector<Scan>> of_task(static_cast<size_t>(tasks.n_shards > 1 ? tasks.n_tasks() : 0));
  parallel_for(tasks.n_tasks(), tasks.n_threads, [&](int64_t task) {
    const int64_t query = task / tasks.n_shards * tasks.group, item = task % tasks.n_shards * tasks.shard;
    const int64_t end_query = std::min(query + tasks.group, pairs.n_query);
    const int64_t end = std::min(item + tasks.shard, pairs.n_db);
    if (tasks.n_shards > 1) {
      of_task[static_cast<size_t>(task)] = scan_shard(pairs, k, query, end_query, item, end, nullptr);
      return;
    }
    Sample sample(pairs, k);
    std::vector<Scan> scans = scan_shard(pairs, k, query, end_query, item, end, &sample);
    for (int64_t q = query; q < end_query; ++q) {
      Nearest& nearest = scans[static_cast<size_t>(q - query)].nearest();
      if (!pairs.allowed && nearest.size() < k) {  // the guess was too low for this query
        std::vector<Scan> again = scan_shard(pairs, k, q, q + 1, item, end, nullptr);
        write(again[0].nearest(), k, distances + q * k, indices + q * k);
      } else {
        write(nearest, k, distances + q * k, indices + q * k);
      }
    }
  });
  if (tasks.n_shards == 1) return;
  parallel_for(pairs.n_query, tasks.n_threads, [&](int64_t q) {
    std::vector<Scan>* shards = &of_task[static_cast<size_t>(q / tasks.group * tasks.n_shards)];
    const auto in_group = static_cast<size_t>(q % tasks.group);
    Nearest& all = shards[0][in_group].nearest();
    for (int64_t shard = 1; shard < tasks.n_shards; ++shard) all.take_all(shards[shard][in_group].nearest());
    write(all, k, distances + q * k, indices + q * k);
  });
}

// Where codes repeat: each distinct code once. A part's number rises with its first member, so that the k nearest items
// belong to the k nearest parts by (distance, number).
void search_distinct(const AsymmetricPairs& pairs, int64_t k, float* distances, int64_t* indices, int n_threads) {
  const Partition& parts = pairs.equal_codes;
  const int64_t n_found = std::min(k, parts.n_parts);
  std::vector<uint8_t> codes(static_cast<size_t>(parts.n_parts * pairs.n_bytes));
  constexpr double kCopyNanoseconds = 10;  // from anywhere in the database
  in_stretches(0, parts.n_parts, kCopyNanoseconds, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      std::memcpy(codes.data() + part * pairs.n_bytes, pairs.database + parts.members[parts.offsets[part]] * pairs.stride,
                  static_cast<size_t>(pairs.n_bytes));
    }
  });
  AsymmetricPairs distinct = pairs;
  distinct.database = codes.data();
  distinct.n_db = parts.n_parts;
  distinct.stride = pairs.n_bytes;
  distinct.equal_codes = {};
  const std::unique_ptr<float[]> part_distances(new float[static_cast<size_t>(pairs.n_query * n_found)]);
  const std::unique_ptr<int64_t[]> numbers(new int64_t[static_cast<size_t>(pairs.n_query * n_found)]);
  search(distinct, n_found, part_distances.get(), numbers.get(), n_threads);
  const int64_t n_tasks = task_count(pairs.n_query, 2.0 * static_cast<double>(k), n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    const int64_t end = pairs.n_query * (task + 1) / n_tasks;
    for (int64_t q = pairs.n_query * task / n_tasks; q < end; ++q) {
      write_members(parts, part_distances.get() + q * n_found, numbers.get() + q * n_found, n_found, k, distances + q * k,
                    indices + q * k);
    }
  });
}

}  // namespace

Status asymmetric_topk(const AsymmetricPairs& pairs, int64_t k, float* distances, int64_t* indices, bool check,
                       int n_threads) {
  const Call call;
  const InFloatMode standard(FloatMode::standard());  // the same sums whatever the caller's mode
  if (pairs.n_query == 0) return {};
  if (check) {
    FirstFault nan;
    look_for_nan(pairs, &nan, n_threads);
    if (nan.found()) return nan.as(Fault::nan_value);
  }
  expect_writes(distances, 4 * pairs.n_query * k);
  expect_writes(indices, 8 * pairs.n_query * k);
  if (pairs.equal_codes.n_parts > 0 && !pairs.allowed) {
    search_distinct(pairs, k, distances, indices, n_threads);
  } else {
    search(pairs, k, distances, indices, n_threads);
  }
  return {};
}

}  // namespace dshc::cpu
