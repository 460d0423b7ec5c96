#include "table_walk.h"

#include <algorithm>
#include <cstring>

#include "../call/blocks.h"
#include "../call/call.h"
#include "../kernels/level.h"
#include "../repeats/substring.h"

namespace dshc::cpu {
namespace {

constexpr size_t kMostProbes = 1024;  // whose cache lines are under way together
constexpr size_t kCompared = 256;     // items, before the bound is asked for again
constexpr size_t kCopied = 8;         // items of a list that are copied without asking how many it has

inline int32_t n_ones(uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0F0F0F0Fu;
  return static_cast<int32_t>((x * 0x01010101u) >> 24);
}

}  // namespace

TableWalk::TableWalk(const Pairs& pairs, const TablePlan& plan)
    : pairs_(pairs), plan_(plan), stride_(WordShape(pairs.n_bytes).code_bytes()), keys_(kCompared) {
  const SubstringTables& tables = pairs.tables;
  const uint32_t* offsets = tables.offsets;
  for (int32_t t = 0; t < tables.n_tables; ++t) {
    tables_.push_back({offsets, tables.items + t * tables.n_codes, tables.first_bit(t), tables.width(t)});
    offsets += (int64_t{1} << tables.width(t)) + 1;
  }
}

void TableWalk::start(TableQuery& query, int64_t number) const {
  query.query = number;
  query.code = pairs_.queries + number * pairs_.n_bytes;
  query.spent = query.candidates = 0.0;
  query.given_up = false;
  query.substrings.clear();
  for (const Table& table : tables_) query.substrings.push_back(substring(query.code, stride_, table.first, table.width));
  query.found_to.assign(tables_.size(), -1);
  query.lookups.clear();
}

double TableWalk::n_probes(const Lookup& lookup) const {
  double n = 0.0;
  for (int32_t ones = lookup.from; ones <= lookup.to; ++ones) n += n_values_with(width(lookup.table), ones);
  return n;
}

void TableWalk::step(std::vector<TableQuery>& queries, TableKeep& keep) {
  for (size_t q = 0; q < queries.size(); ++q) {
    TableQuery& query = queries[q];
    if (query.given_up || query.lookups.empty()) continue;
    double probes = 0.0;
    for (const Lookup& lookup : query.lookups) probes += n_probes(lookup);
    if (!keep.affords(query, static_cast<int64_t>(q), probes * plan_.probe, false)) {
      query.given_up = true;
      continue;
    }
    query.spent += probes * plan_.probe;
    if (probes > static_cast<double>(kMostProbes)) {
      walk_alone(query, q, keep);
      continue;
    }
    if (probes_.size() + static_cast<size_t>(probes) > kMostProbes) flush(queries, keep);
    for (const Lookup& lookup : query.lookups) {
      const size_t begin = probes_.size();
      Ball ball(width(lookup.table), lookup.from, lookup.to);
      while (!ball.done()) add_probes(query, lookup.table, ball);
      parts_.push_back({q, lookup, begin, probes_.size()});
    }
  }
  flush(queries, keep);
}

// As many as have room.
void TableWalk::add_probes(const TableQuery& query, int32_t table, Ball& ball) {
  const uint32_t own = query.substrings[static_cast<size_t>(table)];
  const uint32_t* offsets = tables_[static_cast<size_t>(table)].offsets;
  while (!ball.done() && probes_.size() < kMostProbes) {
    const uint32_t* list = offsets + (own ^ ball.next());
    __builtin_prefetch(list);
    probes_.push_back({list, 0});
  }
}

// How many items their lists have.
int64_t TableWalk::find_lists(int32_t table, size_t begin, size_t end) {
  const uint32_t* items = tables_[static_cast<size_t>(table)].items;
  int64_t n = 0;
  for (size_t p = begin; p < end; ++p) {
    Probe& probe = probes_[p];
    const uint32_t first = probe.list[0];
    probe.n = probe.list[1] - first;
    probe.list = items + first;
    __builtin_prefetch(probe.list);
    n += probe.n;
  }
  return n;
}

void TableWalk::flush(std::vector<TableQuery>& queries, TableKeep& keep) {
  stop_point(plan_.probe * static_cast<double>(probes_.size()));
  for (size_t p = 0, next = 0; p < parts_.size(); p = next) {
    TableQuery& query = queries[parts_[p].query];
    int64_t n = 0;
    for (; next < parts_.size() && parts_[next].query == parts_[p].query; ++next) {
      n += find_lists(parts_[next].lookup.table, parts_[next].begin, parts_[next].end);
    }
    const double cost = static_cast<double>(n) * plan_.candidate;
    query.given_up = !keep.affords(query, static_cast<int64_t>(parts_[p].query), cost, true);
    if (query.given_up) continue;
    query.spent += cost;
    query.candidates += static_cast<double>(n);
  }
  for (const Part& part : parts_) {
    TableQuery& query = queries[part.query];
    if (query.given_up) continue;
    read_items(query, part.query, part.lookup.table, part.begin, part.end, keep);
    query.found_to[static_cast<size_t>(part.lookup.table)] = part.lookup.to;
  }
  parts_.clear();
  probes_.clear();
}

// A step of more probes than are held at once: first all lengths, then the items.
void TableWalk::walk_alone(TableQuery& query, size_t q, TableKeep& keep) {
  std::vector<Probe> others;
  others.swap(probes_);  // of the queries before, that wait to be flushed
  const auto in_turns = [&](const Lookup& lookup, auto use) {
    for (Ball ball(width(lookup.table), lookup.from, lookup.to); !ball.done();) {
      probes_.clear();
      add_probes(query, lookup.table, ball);
      stop_point(plan_.probe * static_cast<double>(probes_.size()));
      use(find_lists(lookup.table, 0, probes_.size()));
    }
  };
  double n = 0.0;
  for (const Lookup& lookup : query.lookups) in_turns(lookup, [&](int64_t items) { n += static_cast<double>(items); });
  query.given_up = !keep.affords(query, static_cast<int64_t>(q), n * plan_.candidate, true);
  if (!query.given_up) {
    query.spent += n * plan_.candidate;
    query.candidates += n;
    for (const Lookup& lookup : query.lookups) {
      in_turns(lookup, [&](int64_t) { read_items(query, q, lookup.table, 0, probes_.size(), keep); });
      query.found_to[static_cast<size_t>(lookup.table)] = lookup.to;
    }
  }
  probes_.swap(others);
}

// Leaves out what other tables have led to before.
int64_t TableWalk::drop_known(const TableQuery& query, int32_t table, Key* keys, int64_t n) const {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Key key = keys[i];
    const uint8_t* code = pairs_.database + index_of(key) * stride_;
    bool known = false;
    for (size_t t = 0; t < tables_.size() && !known; ++t) {
      if (query.found_to[t] < 0 || static_cast<int32_t>(t) == table) continue;
      const uint32_t other = substring(code, stride_, tables_[t].first, tables_[t].width);
      known = n_ones(other ^ query.substrings[t]) <= query.found_to[t];
    }
    keys[kept] = key;
    kept += !known;
  }
  return kept;
}

// The items that are allowed, of all that have these codes.
void TableWalk::hand_out(size_t q, const Key* keys, int64_t n, TableKeep& keep) {
  const Partition& parts = pairs_.equal_codes;
  if (parts.n_parts < 1 && !pairs_.allowed) return keep.take(static_cast<int64_t>(q), keys, n);
  const auto add = [&](int64_t item, Key key) {
    if (!pairs_.allowed || (pairs_.allowed[item / 8] >> (item % 8) & 1)) members_.push_back(key);
  };
  members_.clear();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t item = index_of(keys[i]);
    if (parts.n_parts < 1) {
      add(item, keys[i]);
      continue;
    }
    const int64_t part = part_of_first(parts, item);
    const Key value = make_key(value_of(keys[i]), 0);
    for (int64_t m = parts.offsets[part]; m < parts.offsets[part + 1]; ++m) {
      add(parts.members[m], value | static_cast<Key>(parts.members[m]));
    }
  }
  keep.take(static_cast<int64_t>(q), members_.data(), static_cast<int64_t>(members_.size()));
}

void TableWalk::read_items(TableQuery& query, size_t q, int32_t table, size_t begin, size_t end, TableKeep& keep) {
  size_t n = 0;
  for (size_t p = begin; p < end; ++p) n += probes_[p].n;
  if (n == 0) return;
  stop_point(plan_.candidate * static_cast<double>(n));
  // Beyond the list lies what is fetched ahead, in vain: items of lists before, or the first.
  if (items_.size() < n + kListedAhead) items_.resize(std::max(2 * items_.size(), n + kListedAhead), 0u);
  const SubstringTables& tables = pairs_.tables;
  static_assert(kCopied <= kListedAhead);
  const uint32_t* const last_whole = tables.items + tables.n_tables * tables.n_codes - static_cast<int64_t>(kCopied);
  uint32_t* to = items_.data();
  for (size_t p = begin; p < end; ++p) {
    const Probe& probe = probes_[p];
    size_t copied = 0;
    if (probe.list <= last_whole) {
      std::memcpy(to, probe.list, kCopied * sizeof *to);
      copied = kCopied;
    }
    if (probe.n > copied) std::memcpy(to + copied, probe.list + copied, (probe.n - copied) * sizeof *to);
    to += probe.n;
  }
  // The bound falls with what was taken.
  for (size_t i = 0; i < n; i += kCompared) {
    const int64_t found = plan_.level->codes->near_codes(query.code, pairs_.database, stride_, items_.data() + i,
                                                         static_cast<int64_t>(std::min(kCompared, n - i)),
                                                         keep.bound(static_cast<int64_t>(q)), keys_.data());
    query.spent += plan_.answer * static_cast<double>(found);
    hand_out(q, keys_.data(), drop_known(query, table, keys_.data(), found), keep);
  }
}

}  // namespace dshc::cpu
