#include "distinct_queries.h"

#include <cstring>

#include "../call/call.h"
#include "partition.h"

namespace dshc::cpu {

DistinctQueries::DistinctQueries(const Pairs& pairs, const Relevance& relevance, int n_threads)
    : pairs_(pairs), relevance_(relevance) {
  const int64_t n = pairs.n_query;
  if (n < 2 || (pairs.allowed && pairs.allowed_stride != 0)) return;  // masks of their own make queries differ
  const OwnedPartition owned_codes = OwnedPartition::find(pairs.queries, n, pairs.n_bytes, n - 1, n_threads);
  const Partition codes = owned_codes.view();
  if (codes.n_parts == Partition::kDistinct) return;
  const auto* label_rows = relevance.query_ids ? reinterpret_cast<const uint8_t*>(relevance.query_ids)
                                               : reinterpret_cast<const uint8_t*>(relevance.query_words);
  const int64_t label_bytes = relevance.query_ids ? 4 : 8 * static_cast<int64_t>(relevance.n_words);
  const OwnedPartition owned_labels = OwnedPartition::find(label_rows, n, label_bytes, n, n_threads);
  const Partition labels = owned_labels.view();
  std::vector<int64_t> label_of(static_cast<size_t>(n));
  for (int64_t label = 0; label < labels.n_parts; ++label) {
    for (int64_t m = labels.offsets[label]; m < labels.offsets[label + 1]; ++m) {
      label_of[static_cast<size_t>(labels.members[m])] = label;
    }
  }

  std::vector<int64_t> firsts;  // of each distinct query, in the order of the distinct codes
  std::vector<int64_t> latest(static_cast<size_t>(labels.n_parts), -1);  // the last distinct query of a label
  distinct_of_.resize(static_cast<size_t>(n));
  for (int64_t code = 0; code < codes.n_parts; ++code) {
    stop_point(10.0 * static_cast<double>(codes.offsets[code + 1] - codes.offsets[code]));
    const int64_t first_of_code = static_cast<int64_t>(firsts.size());
    for (int64_t m = codes.offsets[code]; m < codes.offsets[code + 1]; ++m) {
      const int64_t query = codes.members[m];
      int64_t& distinct = latest[static_cast<size_t>(label_of[static_cast<size_t>(query)])];
      if (distinct < first_of_code) {
        distinct = static_cast<int64_t>(firsts.size());
        firsts.push_back(query);
      }
      distinct_of_[static_cast<size_t>(query)] = distinct;
    }
  }
  gather(firsts);
}

void DistinctQueries::gather(const std::vector<int64_t>& firsts) {
  const size_t n_bytes = static_cast<size_t>(pairs_.n_bytes), n_words = static_cast<size_t>(relevance_.n_words);
  codes_.resize(firsts.size() * n_bytes);
  if (relevance_.query_ids) {
    ids_.resize(firsts.size());
  } else {
    words_.resize(firsts.size() * n_words);
  }
  for (size_t i = 0; i < firsts.size(); ++i) {
    stop_point(10.0);
    const size_t first = static_cast<size_t>(firsts[i]);
    std::memcpy(codes_.data() + i * n_bytes, pairs_.queries + first * n_bytes, n_bytes);
    if (relevance_.query_ids) {
      ids_[i] = relevance_.query_ids[first];
    } else {
      std::memcpy(words_.data() + i * n_words, relevance_.query_words + first * n_words, 8 * n_words);
    }
  }
  pairs_.queries = codes_.data();
  pairs_.n_query = static_cast<int64_t>(firsts.size());
  if (relevance_.query_ids) {
    relevance_.query_ids = ids_.data();
  } else {
    relevance_.query_words = words_.data();
  }
}

}  // namespace dshc::cpu
