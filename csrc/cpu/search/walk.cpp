#include "walk.h"

#include <numeric>

#include "../call/call.h"

namespace dshc::cpu {

FilterWalk::FilterWalk(const Plan& plan, const Pairs& pairs, int64_t begin, int64_t end)
    : pairs_(pairs),
      begin_(begin),
      plan_(plan_walk(plan, pairs, end - begin)),
      columns_(plan, plan_, pairs),
      shape_(columns_.shape()),
      words_(query_words(pairs, begin, end)),
      all_(static_cast<size_t>(end - begin)) {
  std::iota(all_.begin(), all_.end(), uint16_t{0});
  const FilterRow* by_planes = plan_.filters.by_planes();
  if (!by_planes) return;
  plane_queries_.reset(new PlaneQueries(*by_planes->planes, words_, end - begin));
  by_pass_ = all_;
}

void FilterWalk::run(int64_t db_begin, int64_t db_end, const SurvivorsOf& survivors) {
  // Blocks grow from a small one, because until a bound has fallen every item is a candidate.
  constexpr int64_t kFirstBlock = 128;
  int64_t block = kFirstBlock, n = 0;
  for (int64_t first = db_begin; first < db_end; first += n, block = 2 * block) {
    if (block > columns_.items()) block = columns_.items();
    n = block < db_end - first ? block : db_end - first;
    stop_point(0.1 * static_cast<double>(n * static_cast<int64_t>(all_.size()) * shape_.n_words));
    const uint8_t* words = columns_.load(first, n);
    const int64_t plane_items = plane_queries_ ? plane_queries_->block_items() : 0;
    if (plane_queries_ && n >= plane_items) choose(survivors);
    const int64_t n_in_planes = use_planes_ ? n / plane_items * plane_items : 0;
    pass_over(survivors, use_planes_ ? by_pass_ : all_, words, first, n);
    for (int64_t i = 0; i < n_in_planes; i += plane_items) {
      const PlaneBlock part{words + i * shape_.word_bytes, columns_.items(), static_cast<uint64_t>(first + i)};
      plane_queries_->walk(
          part, [&](int64_t q) -> Survivors& { return survivors(begin_ + q); },
          [&](int64_t q) { return allowed(begin_ + q, first + i); });
    }
    // What is left of the last block.
    if (use_planes_ && n_in_planes < n) {
      pass_over(survivors, plane_queries_->list(), words + n_in_planes * shape_.word_bytes, first + n_in_planes,
            n - n_in_planes);
    }
  }
}

// Queries go over to bit planes once their bound can be written there; it never rises again.
void FilterWalk::choose(const SurvivorsOf& survivors) {
  size_t kept = 0;
  for (const uint16_t q : by_pass_) {
    if (plane_queries_->takes(survivors(begin_ + q).bound())) {
      plane_queries_->add(q);
    } else {
      by_pass_[kept++] = q;
    }
  }
  const bool all_are_new = !use_planes_;
  const size_t n_new = all_are_new ? plane_queries_->list().size() : by_pass_.size() - kept;
  by_pass_.resize(kept);
  use_planes_ = plane_queries_->size() >= plan_.filters.by_planes()->min_queries;
  if (!use_planes_) return;
  for (size_t i = plane_queries_->list().size() - n_new; i < plane_queries_->list().size(); ++i) {
    const uint16_t q = plane_queries_->list()[i];
    plane_queries_->set_bound(q, survivors(begin_ + q).bound());
  }
}

const FilterRow& FilterWalk::row_for(const FilterPass& pass) const {
  const FilterRow* const* row = plan_.filters.by_pass();
  if ((*row)->max_bound == kNoMaxBound) return **row;
  int32_t bound = 0;
  for (int q = 0; q < pass.n_queries; ++q) bound = pass.bounds[q] > bound ? pass.bounds[q] : bound;
  while ((*row)->max_bound < bound) ++row;
  return **row;
}

// Pass after pass, kFilterQueries at a time: n items from `first` on, whose words begin at `words`.
void FilterWalk::pass_over(const SurvivorsOf& survivors, const std::vector<uint16_t>& list, const uint8_t* words,
                           int64_t first, int64_t n) {
  FilterPass pass{};
  pass.score = pairs_.score;
  pass.n_bytes = pairs_.n_bytes;
  pass.word_bytes = shape_.word_bytes;
  pass.n_words = shape_.n_words;
  pass.columns = words;
  pass.column_items = shape_.n_words == 1 ? 0 : columns_.items();
  pass.n = n;
  pass.first = static_cast<uint64_t>(first);
  const int64_t n_list = static_cast<int64_t>(list.size());
  for (int64_t at = 0; at < n_list; at += kFilterQueries) {
    const uint16_t* numbers = list.data() + at;
    pass.n_queries = static_cast<int>(kFilterQueries < n_list - at ? kFilterQueries : n_list - at);
    for (int q = 0; q < pass.n_queries; ++q) {
      const int64_t query = begin_ + numbers[q];
      Survivors& mine = survivors(query);
      pass.queries[q] = reinterpret_cast<const uint8_t*>(words_.data() + numbers[q] * shape_.n_words);
      pass.bounds[q] = mine.bound();
      pass.allowed[q] = allowed(query, first);
      pass.found[q] = mine.room(n);
    }
    const FilterRow& row = row_for(pass);
    pass.nibbles = row.arrange ? columns_.arranged(row, pass) : nullptr;
    row.filter(pass);
    for (int q = 0; q < pass.n_queries; ++q) survivors(begin_ + numbers[q]).take(pass.found[q]);
  }
}

}  // namespace dshc::cpu
