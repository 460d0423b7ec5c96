// Queries with equal codes have equal answers: each is ranked once.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../call/call.h"
#include "../call/threads.h"
#include "partition.h"

namespace dshc::cpu {

class EqualQueries {
 public:
  EqualQueries(const Pairs& pairs, int n_threads) : pairs_(pairs) {
    constexpr int64_t kWorthALook = 1 << 24;  // pairs; a look at the queries takes some 30 us
    const bool own_masks = pairs.allowed && pairs.allowed_stride != 0;
    if (own_masks || pairs.n_query < 64 || pairs.n_query * pairs.n_db < kWorthALook) return;
    if (!rows_repeat(pairs.queries, pairs.n_query, pairs.n_bytes, 2)) return;
    parts_ = OwnedPartition::find(pairs.queries, pairs.n_query, pairs.n_bytes, pairs.n_query, n_threads);
    const Partition parts = parts_.view();
    const size_t n_bytes = static_cast<size_t>(pairs.n_bytes);
    codes_.resize(static_cast<size_t>(parts.n_parts) * n_bytes);
    in_stretches(0, parts.n_parts, 10.0, [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part) {
        std::memcpy(codes_.data() + static_cast<size_t>(part) * n_bytes,
                    pairs.queries + parts.members[parts.offsets[part]] * pairs.n_bytes, n_bytes);
      }
    });
    pairs_.queries = codes_.data();
    pairs_.n_query = parts.n_parts;
  }

  // The call with its distinct queries only. Valid as long as this object.
  const Pairs& pairs() const { return pairs_; }

  // The queries of the call that the distinct one stands for, ascending.
  template <class Use>
  void for_each(int64_t distinct, Use use) const {
    if (codes_.empty()) return use(distinct);
    const Partition parts = parts_.view();
    for (int64_t m = parts.offsets[distinct]; m < parts.offsets[distinct + 1]; ++m) use(parts.members[m]);
  }
  int64_t first(int64_t distinct) const {
    return codes_.empty() ? distinct : parts_.view().members[parts_.view().offsets[distinct]];
  }

  // Copies the answers in the first one's place to the others' places: begin(query) in arrays of counts and indices, of
  // size(distinct) each.
  template <class Begin, class Size>
  void copy_answers(int32_t* counts, int64_t* indices, int n_threads, Begin begin, Size size) const {
    if (codes_.empty()) return;
    parallel_for(pairs_.n_query, n_threads, [&](int64_t distinct) {
      const int64_t from = begin(first(distinct));
      const size_t n = static_cast<size_t>(size(distinct));
      for_each(distinct, [&](int64_t query) {
        const int64_t to = begin(query);
        if (to == from) return;
        std::memcpy(counts + to, counts + from, n * sizeof *counts);
        std::memcpy(indices + to, indices + from, n * sizeof *indices);
      });
    });
  }

 private:
  Pairs pairs_;
  OwnedPartition parts_;
  std::vector<uint8_t> codes_;  // empty: the queries are as they were
};

}  // namespace dshc::cpu
