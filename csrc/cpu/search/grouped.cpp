#include "grouped.h"

#include <algorithm>
#include <cstring>
#include <limits>

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
      parts_(database.equal_.parts()),
      centers_(parts_.distinct && parts_.distinct->n_centers > 0 ? parts_.distinct : nullptr),
      padded_(database.pairs_.n_bytes),
      center_values_(static_cast<size_t>(centers_ ? centers_->n_centers : 0)),
      values_(new uint16_t[static_cast<size_t>(parts_.n_parts)]),
      compared_(centers_ ? new uint32_t[static_cast<size_t>(parts_.n_parts)] : nullptr),
      near_(new uint32_t[static_cast<size_t>(parts_.n_parts)]),
      by_value_(new uint32_t[static_cast<size_t>(parts_.n_parts)]),
      value_begins_(static_cast<size_t>(n_rank_values(database.pairs_)) + 1) {}

void GroupedRanking::Ranker::rank(int64_t query) {
  const Pairs& pairs = database_.pairs_;
  query_ = padded_.load(pairs.queries, query, 1);
  const int64_t n = centers_ ? centers_->n_centers : parts_.n_parts;
  stop_point(static_cast<double>(n));
  level().rank->rank_row(pairs.score, query_, centers_ ? centers_->centers : database_.equal_.codes(), n,
                         database_.equal_.stride(), static_cast<uint16_t>(8 * pairs.n_bytes),
                         centers_ ? center_values_.data() : values_.get());
  n_compared_ = centers_ ? 0 : n;
  centers_to_ = 0;
}

// Compares the query with all distinct codes that may have a rank value below `limit`: a code's value, an XOR or an AND
// count, differs from its center's in no more than the bits in which the two codes differ.
void GroupedRanking::Ranker::compare_below(int32_t limit) {
  if (!centers_) return;
  const int32_t to = limit + centers_->reach;
  if (to <= centers_to_) return;
  const Pairs& pairs = database_.pairs_;
  const int32_t stride = database_.equal_.stride();
  const int64_t n = level().rank->select_between(center_values_.data(), centers_->n_centers,
                                                 static_cast<uint16_t>(centers_to_), static_cast<uint16_t>(to), near_.get());
  centers_to_ = to;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t center = near_[static_cast<size_t>(i)];
    const int64_t begin = centers_->begins[center], n_codes = centers_->begins[center + 1] - begin;
    stop_point(static_cast<double>(n_codes));
    level().rank->rank_row(pairs.score, query_, centers_->near_rows + begin * stride, n_codes, stride,
                           static_cast<uint16_t>(8 * pairs.n_bytes), values_.get() + n_compared_);
    std::memcpy(compared_.get() + n_compared_, centers_->near_parts + begin,
                static_cast<size_t>(n_codes) * sizeof(uint32_t));
    n_compared_ += n_codes;
  }
}

int64_t GroupedRanking::Ranker::n_below(int32_t limit) {
  compare_below(limit);
  stop_point(static_cast<double>(n_compared_));
  const int64_t n_near =
      level().rank->select_between(values_.get(), n_compared_, 0, static_cast<uint16_t>(limit), near_.get());
  int64_t n = 0;
  for (int64_t i = 0; i < n_near; ++i) {
    const uint32_t place = near_[static_cast<size_t>(i)];
    n += size(compared_ ? compared_[place] : place);
  }
  return n;
}

// The least rank value of the centers, or of some of the distinct codes: few of all lie below it.
int32_t GroupedRanking::Ranker::low_value() const {
  const int64_t n = centers_ ? centers_->n_centers
                             : std::min(parts_.n_parts, std::max<int64_t>(64, parts_.n_parts / 16));
  const uint16_t* values = centers_ ? center_values_.data() : values_.get();
  int16_t least = std::numeric_limits<int16_t>::max();  // rank values are below 2^13; signed is what old vectors compare
  for (int64_t i = 0; i < n; ++i) least = std::min(least, static_cast<int16_t>(values[i]));
  return least;
}

// by_value_: the distinct codes of rank values [low, high); value_begins_: where each of these values begins in it.
void GroupedRanking::Ranker::sort_between(int32_t low, int32_t high) {
  compare_below(high);
  stop_point(static_cast<double>(n_compared_));
  const int64_t n_near = level().rank->select_between(values_.get(), n_compared_, static_cast<uint16_t>(low),
                                                      static_cast<uint16_t>(high), near_.get());
  const size_t n_values = static_cast<size_t>(high - low);
  const auto value = [&](uint32_t place) { return static_cast<size_t>(values_[place] - low); };
  std::fill_n(value_begins_.begin(), n_values + 1, 0);
  for (int64_t i = 0; i < n_near; ++i) ++value_begins_[value(near_[static_cast<size_t>(i)]) + 1];
  for (size_t v = 0; v < n_values; ++v) value_begins_[v + 1] += value_begins_[v];
  for (int64_t i = 0; i < n_near; ++i) {
    const uint32_t place = near_[static_cast<size_t>(i)];
    by_value_[static_cast<size_t>(value_begins_[value(place)]++)] = compared_ ? compared_[place] : place;
  }
  // Each begin has moved to its end, which is the next one's begin.
  for (size_t v = n_values; v > 0; --v) value_begins_[v] = value_begins_[v - 1];
  value_begins_[0] = 0;
}

void GroupedRanking::Ranker::write(int64_t k, int32_t* values, int64_t* indices) {
  const int32_t end = n_rank_values(database_.pairs_);
  int64_t done = 0;
  // The nearest distinct codes mostly hold the answer: the others are put in order only where they are asked for, in ever
  // wider ranges of values.
  for (int32_t low = 0, high = low_value() + 1, width = 1; done < k; low = high, high = std::min(low + width, end), width *= 2) {
    sort_between(low, high);
    for (int32_t v = 0; v < high - low && done < k; ++v) {
      const uint32_t* near = by_value_.get() + value_begins_[static_cast<size_t>(v)];
      const int64_t n_near = value_begins_[static_cast<size_t>(v) + 1] - value_begins_[static_cast<size_t>(v)];
      int64_t n_items = 0;
      for (int64_t i = 0; i < n_near; ++i) n_items += size(near[i]);
      if (n_items == 0) continue;
      stop_point(2.0 * static_cast<double>(n_items));
      const int64_t n_taken = std::min(n_items, k - done);
      std::fill(values + done, values + done + n_taken, low + v);
      merge(near, n_near, n_items, n_taken, indices + done);
      done += n_taken;
    }
  }
}

// The first n_taken of the n_items items of some parts, in order of index.
void GroupedRanking::Ranker::merge(const uint32_t* parts, int64_t n_parts, int64_t n_items, int64_t n_taken,
                                   int64_t* indices) {
  const int64_t *members = parts_.members, *offsets = parts_.offsets;
  if (n_parts == 1) {
    std::memcpy(indices, members + offsets[parts[0]], static_cast<size_t>(n_taken) * sizeof(int64_t));
    return;
  }
  // If each part gave as many of its first items as it has of all, rounded up, these would be n_taken or more: so the first
  // n_taken do not lie past the last one of these.
  const double share = static_cast<double>(n_taken) / static_cast<double>(n_items);
  int64_t first = database_.pairs_.n_db, last = 0;
  for (int64_t p = 0; p < n_parts; ++p) {
    const int64_t n = size(parts[p]), quota = static_cast<int64_t>(share * static_cast<double>(n)) + 1;
    first = std::min(first, members[offsets[parts[p]]]);
    last = std::max(last, members[offsets[parts[p]] + std::min(n, quota) - 1]);
  }
  // What is not past it is marked, one bit an item, and read off in order: cheaper than a sort, which has branches that
  // cannot be foreseen.
  const int64_t begin_word = first >> 6, n_words = (last >> 6) - begin_word + 1;
  if (static_cast<int64_t>(marks_.size()) < n_words) marks_.resize(static_cast<size_t>(n_words), 0);
  uint64_t* marks = marks_.data();
  for (int64_t p = 0; p < n_parts; ++p) {
    const int64_t begin = offsets[parts[p]], end = std::min(offsets[parts[p] + 1], begin + n_taken);
    for (int64_t m = begin; m < end && members[m] <= last; ++m) {
      marks[(members[m] >> 6) - begin_word] |= uint64_t{1} << (members[m] & 63);
    }
  }
  int64_t done = 0;
  for (int64_t w = 0; w < n_words; ++w) {
    uint64_t word = marks[w];
    marks[w] = 0;
    for (; word != 0 && done < n_taken; word &= word - 1) indices[done++] = 64 * (begin_word + w) + __builtin_ctzll(word);
  }
}

}  // namespace dshc::cpu
