#include "allowed_items.h"

namespace dshc::cpu {

AllowedItems::AllowedItems(const Pairs& pairs, const Relevance& relevance) : pairs_(pairs), relevance_(relevance) {
  constexpr int64_t kWorthCopy = 8;  // queries
  if (!pairs.allowed || pairs.allowed_stride != 0 || pairs.n_query < kWorthCopy) return;
  const auto is_allowed = [&](int64_t i) { return (pairs.allowed[i / 8] >> (i % 8) & 1) != 0; };
  int64_t n = 0;
  for (int64_t i = 0; i < pairs.n_db; ++i) n += is_allowed(i);
  pairs_.allowed = nullptr;
  if (n == pairs.n_db) return;
  const int64_t n_bytes = pairs.n_bytes, n_words = relevance.n_words;
  codes_.reserve(static_cast<size_t>(n * n_bytes));
  if (relevance.database_ids) {
    ids_.reserve(static_cast<size_t>(n));
  } else {
    words_.reserve(static_cast<size_t>(n * n_words));
  }
  for (int64_t i = 0; i < pairs.n_db; ++i) {
    if (!is_allowed(i)) continue;
    codes_.insert(codes_.end(), pairs.database + i * n_bytes, pairs.database + (i + 1) * n_bytes);
    if (relevance.database_ids) {
      ids_.push_back(relevance.database_ids[i]);
    } else {
      words_.insert(words_.end(), relevance.database_words + i * n_words, relevance.database_words + (i + 1) * n_words);
    }
  }
  pairs_.database = codes_.data();
  pairs_.n_db = n;
  // The parts are of the whole database; whether codes repeat is still known.
  if (pairs.equal_codes.n_parts != Partition::kDistinct) pairs_.equal_codes = {};
  if (relevance.equal_labels.n_parts != Partition::kDistinct) relevance_.equal_labels = {};
  if (relevance.database_ids) {
    relevance_.database_ids = ids_.data();
  } else {
    relevance_.database_words = words_.data();
  }
}

}  // namespace dshc::cpu
