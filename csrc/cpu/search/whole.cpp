#include "whole.h"

#include <algorithm>

#include "../call/call.h"

namespace dshc::cpu {
namespace {

constexpr int64_t kBlock = 2048;  // items whose values are counted while they are in the first-level cache
constexpr int kTables = 4;        // neighbours often have one value, and a counter is no sooner read than it was written

}  // namespace

WholeRanking::WholeRanking(const Plan& plan, const Pairs& pairs)
    : plan_(plan),
      pairs_(pairs),
      n_values_(n_rank_values(pairs)),
      row_(new uint16_t[static_cast<size_t>(pairs.n_db)]),
      query_code_(pairs.n_bytes),
      codes_(pairs.n_bytes),
      tables_(static_cast<size_t>(kTables * n_values_)),
      places_(static_cast<size_t>(n_values_)) {}

void WholeRanking::count(int64_t query) {
  const uint8_t* code = query_code_.load(pairs_.queries, query, 1);
  std::fill(tables_.begin(), tables_.end(), 0u);
  uint32_t* counts[kTables];
  for (int t = 0; t < kTables; ++t) counts[t] = tables_.data() + t * n_values_;
  for (int64_t first = 0; first < pairs_.n_db; first += kBlock) {
    const int64_t n = std::min(kBlock, pairs_.n_db - first);
    const uint8_t* codes = codes_.load(pairs_.database, first, n);
    uint16_t* row = row_.get() + first;
    plan_.level->rank->rank_row(pairs_.score, code, codes, n, codes_.stride(),
                                static_cast<uint16_t>(8 * pairs_.n_bytes), row);
    int64_t i = 0;
    for (; i + kTables <= n; i += kTables) {
      for (int t = 0; t < kTables; ++t) ++counts[t][row[i + t]];
    }
    for (; i < n; ++i) ++counts[0][row[i]];
  }
}

void WholeRanking::write(int64_t query, int64_t k, int32_t* values, int64_t* indices) {
  stop_point(1.5 * static_cast<double>(pairs_.n_db));
  count(query);
  int64_t place = 0;
  int32_t limit = 0;  // values below it have a place for all of their items, or for the first
  for (int32_t value = 0; value < n_values_; ++value) {
    int64_t n = 0;
    for (int t = 0; t < kTables; ++t) n += tables_[static_cast<size_t>(t * n_values_ + value)];
    places_[static_cast<size_t>(value)] = place;
    if (place < k) limit = value + 1;
    const int64_t end = std::min(place + n, k);
    if (place < end) std::fill(values + place, values + end, value);
    place += n;
  }
  const uint16_t* row = row_.get();
  int64_t* places = places_.data();
  if (k == pairs_.n_db) {
    for (int64_t i = 0; i < k; ++i) indices[places[row[i]]++] = i;
    return;
  }
  for (int64_t i = 0; i < pairs_.n_db; ++i) {
    if (row[i] >= limit) continue;
    const int64_t at = places[row[i]]++;
    if (at < k) indices[at] = i;
  }
}

}  // namespace dshc::cpu
