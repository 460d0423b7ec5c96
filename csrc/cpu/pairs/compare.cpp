#include "compare.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"
#include "../call/threads.h"
#include "../search/search.h"

namespace dshc::cpu {
namespace {

// Takes what a group of codes finds: of each the later items, in order.
class KeepLater {
 public:
  KeepLater(const Pairs& pairs, int32_t limit, PairRoom& room, PairRows& rows)
      : pairs_(pairs), limit_(limit), room_(room), rows_(rows) {}

  void start(int64_t /*query*/, Survivors& mine) const { mine.start(pairs_.n_db + 1, limit_); }

  void take_group(int64_t group, int64_t begin, int64_t end, Survivors* found) const {
    int64_t all = 0;
    for (int64_t q = begin; q < end; ++q) all += found[q - begin].size();
    // Every item has found itself, and pairs inside of the group were found from both sides.
    const std::unique_ptr<Key[]> both(new Key[static_cast<size_t>(all)]);
    Key* to = both.get();
    for (int64_t q = begin; q < end; ++q) {
      Key* const from = to;
      const int64_t size = found[q - begin].size();
      found[q - begin].move_sorted(from);
      to = std::remove_if(from, from + size, [&](Key key) { return index_of(key) <= q; });
      rows_.offsets[q + 1] = to - from;
    }
    const size_t n = static_cast<size_t>(to - both.get());
    room_.take(static_cast<int64_t>(n));
    if (n == 0) return;
    std::unique_ptr<Key[]>& keys = rows_.keys[static_cast<size_t>(group)];
    keys.reset(new Key[n]);
    std::memcpy(keys.get(), both.get(), n * sizeof(Key));
  }

 private:
  const Pairs& pairs_;
  int32_t limit_;
  PairRoom& room_;
  PairRows& rows_;
};

// A stretch of the groups of a part, or some rows of the triangle of one large group.
struct GroupTask {
  int part;
  const Groups* groups;
  int64_t first, last;          // groups
  int64_t row_begin, row_end;   // of the only group; row_end 0: all rows
};

std::vector<GroupTask> cut_groups(const std::vector<std::vector<Groups>>& groups) {
  constexpr int64_t kTaskPairs = 1 << 18;
  std::vector<GroupTask> tasks;
  for (size_t part = 0; part < groups.size(); ++part) {
    for (const Groups& list : groups[part]) {
      int64_t first = 0, work = 0;
      for (int64_t g = 0; g < list.size(); ++g) {
        const int64_t size = list.end(g) - list.begin(g);
        const int64_t pairs = size * (size - 1) / 2;
        if (pairs > 2 * kTaskPairs) {
          if (first < g) tasks.push_back({static_cast<int>(part), &list, first, g, 0, 0});
          for (int64_t row = 0, next; row < size; row = next) {
            next = std::min(size, row + divide_up(kTaskPairs, size - row));
            tasks.push_back({static_cast<int>(part), &list, g, g + 1, row, next});
          }
          first = g + 1, work = 0;
        } else if ((work += pairs + size) > kTaskPairs) {
          tasks.push_back({static_cast<int>(part), &list, first, g + 1, 0, 0});
          first = g + 1, work = 0;
        }
      }
      if (first < list.size()) tasks.push_back({static_cast<int>(part), &list, first, list.size(), 0, 0});
    }
  }
  return tasks;
}

class GroupCompare {
 public:
  GroupCompare(const CodeRows& codes, const CodeParts& parts, int32_t limit, std::vector<FoundPair>& found)
      : codes_(codes), parts_(parts), rank_(*level().rank), limit_(static_cast<uint16_t>(limit)),
        stride_(static_cast<int32_t>(8 * divide_up(codes.n_bytes, 8))), found_(found) {}

  void run(const GroupTask& task) {
    for (int64_t g = task.first; g < task.last; ++g) {
      const int64_t begin = task.groups->begin(g), size = task.groups->end(g) - begin;
      const uint32_t* members = task.groups->members.data() + begin;
      ask_for(*task.groups, begin + size);
      gather(members, size);
      if (size <= kFewCodes) {
        compare_few(task.part, members, size);
      } else {
        compare_rows(task.part, members, size, task.row_begin, task.row_end > 0 ? task.row_end : size - 1);
      }
    }
  }

 private:
  // Codes lie anywhere: those of the groups to come are under way while these are compared.
  void ask_for(const Groups& groups, int64_t next) {
    constexpr int64_t kAhead = 32;  // members
    const int64_t end = std::min(next + kAhead, static_cast<int64_t>(groups.members.size()));
    asked_ = std::max(asked_ < end ? asked_ : next, next);
    for (; asked_ < end; ++asked_) {
      const uint8_t* code = codes_.rows + static_cast<int64_t>(groups.members[static_cast<size_t>(asked_)]) * codes_.stride;
      __builtin_prefetch(code);
      __builtin_prefetch(code + codes_.n_bytes - 1);
    }
  }

  // The codes of a group beside each other, as whole words.
  void gather(const uint32_t* members, int64_t n) {
    const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(stride_);
    if (near_.size() < bytes) near_.assign(2 * bytes, 0);  // the padding is written here, once
    if (values_.size() < static_cast<size_t>(n)) values_.resize(2 * static_cast<size_t>(n));
    if (hits_.size() < static_cast<size_t>(n)) hits_.resize(2 * static_cast<size_t>(n));
    if (codes_.stride == stride_) {
      for (int64_t m = 0; m < n; ++m) {
        const uint8_t* from = codes_.rows + static_cast<int64_t>(members[m]) * stride_;
        for (int32_t b = 0; b < stride_; b += 8) std::memcpy(near_.data() + m * stride_ + b, from + b, 8);
      }
      return;
    }
    for (int64_t m = 0; m < n; ++m) {
      std::memcpy(near_.data() + m * stride_, codes_.rows + static_cast<int64_t>(members[m]) * codes_.stride,
                  static_cast<size_t>(codes_.n_bytes));
    }
  }

  void take(int part, const uint32_t* members, int64_t a, int64_t b, uint16_t distance) {
    if (parts_.first_equal(near_.data() + a * stride_, near_.data() + b * stride_) != part) return;
    found_.push_back({members[a], members[b], distance});
  }

  void compare_few(int part, const uint32_t* members, int64_t n) {
    ClosePair pairs[kFewCodes * kFewCodes / 2];
    stop_point(10.0 + 0.25 * static_cast<double>(n * n));
    const int64_t n_pairs = rank_.pairs_below(near_.data(), n, stride_, limit_, pairs);
    for (int64_t p = 0; p < n_pairs; ++p) take(part, members, pairs[p].first, pairs[p].second, pairs[p].count);
  }

  void compare_rows(int part, const uint32_t* members, int64_t n, int64_t row_begin, int64_t row_end) {
    for (int64_t a = row_begin; a < row_end; ++a) {
      const uint8_t* code = near_.data() + a * stride_;
      const int64_t rest = n - a - 1;
      stop_point(10.0 + 0.5 * static_cast<double>(rest));
      rank_.rank_row(Score::hamming, code, code + stride_, rest, stride_, 0, values_.data());
      const int64_t n_hits = rank_.select_between(values_.data(), rest, 0, limit_, hits_.data());
      for (int64_t h = 0; h < n_hits; ++h) {
        const uint32_t hit = hits_[static_cast<size_t>(h)];
        take(part, members, a, a + 1 + hit, values_[hit]);
      }
    }
  }

  const CodeRows& codes_;
  const CodeParts& parts_;
  const RankKernels& rank_;
  uint16_t limit_;
  int32_t stride_;
  int64_t asked_ = 0;
  std::vector<uint8_t> near_;
  std::vector<uint16_t> values_;
  std::vector<uint32_t> hits_;
  std::vector<FoundPair>& found_;
};

}  // namespace

PairRows compare_blocks(const PairsPlan& plan, const CodeRows& codes, int32_t limit, PairRoom& room, int64_t* offsets) {
  const Pairs pairs{codes.rows, codes.rows, codes.n, codes.n, codes.stride, Score::hamming, nullptr, 0};
  const Tasks& tasks = plan.blocks.tasks;
  PairRows rows{codes.n, offsets, tasks.group, {}};
  rows.keys.resize(static_cast<size_t>(tasks.n_groups));
  offsets[0] = 0;
  KeepLater keep(pairs, limit, room, rows);
  SpareSurvivors spare;
  parallel_for(tasks.n_groups, tasks.n_threads, [&](int64_t group) {
    const int64_t begin = group * tasks.group, end = std::min(begin + tasks.group, codes.n);
    std::vector<Survivors> found = spare.take(tasks.group);
    const SurvivorsOf survivors{found.data(), begin, 1};
    for (int64_t q = begin; q < end; ++q) keep.start(q, survivors(q));
    FilterWalk(plan.blocks, pairs, begin, end).run(begin, codes.n, survivors);
    keep.take_group(group, begin, end, found.data());
    spare.give(std::move(found));
  });
  for (int64_t i = 0; i < codes.n; ++i) offsets[i + 1] += offsets[i];
  return rows;
}

std::vector<std::vector<FoundPair>> compare_groups(const CodeRows& codes, const CodeParts& parts,
                                                   const std::vector<std::vector<Groups>>& groups, int32_t limit,
                                                   PairRoom& room, int n_threads) {
  const std::vector<GroupTask> tasks = cut_groups(groups);
  std::vector<std::vector<FoundPair>> found(tasks.size());
  parallel_for(static_cast<int64_t>(tasks.size()), n_threads, [&](int64_t t) {
    std::vector<FoundPair>& mine = found[static_cast<size_t>(t)];
    GroupCompare(codes, parts, limit, mine).run(tasks[static_cast<size_t>(t)]);
    room.take(static_cast<int64_t>(mine.size()));
  });
  return found;
}

}  // namespace dshc::cpu
