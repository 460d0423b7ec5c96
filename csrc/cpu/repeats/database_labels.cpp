#include "database_labels.h"

#include "../call/call.h"

namespace dshc::cpu {

DatabaseLabels::DatabaseLabels(const Pairs& pairs, const Relevance& relevance, int64_t max_labels, int n_threads)
    : relevance_(&relevance), parts_(relevance.equal_labels) {
  const bool by_id = relevance.database_ids != nullptr;
  if (parts_.n_parts == 0) {
    const auto* rows = by_id ? reinterpret_cast<const uint8_t*>(relevance.database_ids)
                             : reinterpret_cast<const uint8_t*>(relevance.database_words);
    const int64_t row_bytes = by_id ? 4 : 8 * static_cast<int64_t>(relevance.n_words);
    if (max_labels < pairs.n_db && estimate_distinct(rows, pairs.n_db, row_bytes) > 2 * max_labels) return;
    owned_ = OwnedPartition::find(rows, pairs.n_db, row_bytes, max_labels, n_threads);
    parts_ = owned_.view();
  }
  if (parts_.n_parts > max_labels) parts_.n_parts = Partition::kDistinct;
  for (int64_t label = 0; label < parts_.n_parts; ++label) {
    stop_point(50.0);
    const int64_t first = parts_.members[parts_.offsets[label]];
    if (by_id) {
      label_of_id_.emplace(relevance.database_ids[first], label);
    } else {
      const uint64_t* words = relevance.database_words + first * relevance.n_words;
      words_.insert(words_.end(), words, words + relevance.n_words);
    }
  }
}

}  // namespace dshc::cpu
