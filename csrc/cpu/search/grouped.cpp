#include "grouped.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"
#include "../kernels/level.h"

namespace dshc::cpu {

namespace {
constexpr int64_t kRepeats = 8;           // items a distinct code, from which grouping pays
constexpr int64_t kWorthALook = 1 << 25;  // pairs; a look at the codes takes some 30 us
constexpr int64_t kWorthGrouping = 64;    // queries, that take as long as finding the equal codes
}  // namespace

GroupedRanking::GroupedRanking(const Pairs& pairs, int n_threads) : pairs_(pairs) {
  if (pairs.allowed || pairs.n_db == 0) return;
  const bool small = pairs.n_query < kWorthGrouping || pairs.n_query * pairs.n_db < kWorthALook;
  if (small && pairs.equal_codes.n_parts < 1) return;
  equal_ = EqualCodes::find(pairs, kRepeats, n_threads);
}

GroupedRanking::Ranker::Ranker(const GroupedRanking& database)
    : database_(database),
      values_(static_cast<size_t>(database.equal_.parts().n_parts)),
      items_(static_cast<size_t>(n_rank_values(database.pairs_))),
      by_value_(values_.size()),
      value_begins_(items_.size() + 1),
      marks_(static_cast<size_t>((database.pairs_.n_db + 63) / 64), 0) {}

void GroupedRanking::Ranker::rank(int64_t query) {
  const Pairs& pairs = database_.pairs_;
  const Partition& parts = database_.equal_.parts();
  stop_point(2.0 * static_cast<double>(parts.n_parts));
  StridedCodes padded(pairs.n_bytes);
  level().rank->rank_row(pairs.score, padded.load(pairs.queries, query, 1), database_.equal_.codes(), parts.n_parts,
                  database_.equal_.stride(), static_cast<uint16_t>(8 * pairs.n_bytes), values_.data());
  std::fill(items_.begin(), items_.end(), 0);
  std::fill(value_begins_.begin(), value_begins_.end(), 0);
  for (int64_t part = 0; part < parts.n_parts; ++part) {
    const size_t value = values_[static_cast<size_t>(part)];
    items_[value] += parts.offsets[part + 1] - parts.offsets[part];
    ++value_begins_[value + 1];
  }
  for (size_t v = 0; v + 1 < value_begins_.size(); ++v) value_begins_[v + 1] += value_begins_[v];
  for (int64_t part = 0; part < parts.n_parts; ++part) {
    by_value_[static_cast<size_t>(value_begins_[values_[static_cast<size_t>(part)]]++)] = static_cast<int32_t>(part);
  }
  // Each begin has moved to its end, which is the next one's begin.
  for (size_t v = value_begins_.size() - 1; v > 0; --v) value_begins_[v] = value_begins_[v - 1];
  value_begins_[0] = 0;
}

int64_t GroupedRanking::Ranker::n_below(int32_t limit) const {
  int64_t n = 0;
  for (int32_t v = 0; v < limit; ++v) n += items_[static_cast<size_t>(v)];
  return n;
}

void GroupedRanking::Ranker::write(int64_t k, int32_t* values, int64_t* indices) {
  int64_t done = 0;
  for (size_t v = 0; done < k; ++v) {
    if (items_[v] == 0) continue;
    stop_point(2.0 * static_cast<double>(items_[v]));
    const int64_t n_taken = std::min(items_[v], k - done);
    std::fill(values + done, values + done + n_taken, static_cast<int32_t>(v));
    merge(by_value_.data() + value_begins_[v], value_begins_[v + 1] - value_begins_[v], n_taken, indices + done);
    done += n_taken;
  }
}

// The first n_taken items of some parts in order of index.
void GroupedRanking::Ranker::merge(const int32_t* parts, int64_t n_parts, int64_t n_taken, int64_t* indices) {
  const int64_t *members = database_.equal_.parts().members, *offsets = database_.equal_.parts().offsets;
  if (n_parts == 1) {
    std::memcpy(indices, members + offsets[parts[0]], static_cast<size_t>(n_taken) * sizeof(int64_t));
    return;
  }
  // Of each part no more than its own first n_taken can be among the first n_taken of all. They are marked, one bit an
  // item, and read off in order: cheaper than a sort, which has branches that cannot be foreseen.
  int64_t last_word = 0;
  for (int64_t p = 0; p < n_parts; ++p) {
    const int64_t begin = offsets[parts[p]], end = std::min(offsets[parts[p] + 1], begin + n_taken);
    for (int64_t m = begin; m < end; ++m) marks_[static_cast<size_t>(members[m] >> 6)] |= uint64_t{1} << (members[m] & 63);
    last_word = std::max(last_word, members[end - 1] >> 6);
  }
  int64_t done = 0;
  for (int64_t w = 0; w <= last_word; ++w) {
    uint64_t word = marks_[static_cast<size_t>(w)];
    marks_[static_cast<size_t>(w)] = 0;
    for (; word != 0 && done < n_taken; word &= word - 1) indices[done++] = 64 * w + __builtin_ctzll(word);
  }
}

}  // namespace dshc::cpu
