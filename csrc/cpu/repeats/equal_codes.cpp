#include "equal_codes.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"

namespace dshc::cpu {

namespace {

// Finding the parts takes about as long as some hundred queries. A few codes that many items have make the mean look
// better than it is for the other items, so that few queries want a surer sign: most rows of the sample seen twice.
bool worth_finding(const Pairs& pairs, int64_t times) {
  constexpr int64_t kCheapBeside = 2048;  // queries, to which parts looked for in vain add a twentieth or so
  const RowSample sample = look_at_rows(pairs.database, pairs.n_db, pairs.n_bytes);
  if (pairs.n_query < kCheapBeside) return 2 * sample.n_single <= sample.n_rows;
  return sample.estimate_distinct(pairs.n_db) <= pairs.n_db / times;
}

}  // namespace

EqualCodes EqualCodes::find(const Pairs& pairs, int64_t times, int n_threads) {
  EqualCodes equal;
  const int64_t max_parts = std::min<int64_t>(pairs.n_db / times, INT32_MAX);  // a part's number fits in 32 bits
  equal.parts_ = pairs.equal_codes;
  if (equal.parts_.n_parts == 0 && worth_finding(pairs, times)) {
    equal.owned_ = OwnedPartition::find(pairs.database, pairs.n_db, pairs.n_bytes, max_parts, n_threads);
    equal.parts_ = equal.owned_.view();
  }
  const Partition& parts = equal.parts_;
  if (parts.n_parts < 1 || parts.n_parts > max_parts) return equal;
  equal.stride_ = StridedCodes(pairs.n_bytes).stride();
  if (parts.distinct && equal.stride_ == pairs.n_bytes) {
    equal.codes_ = parts.distinct->rows;
    return equal;
  }
  equal.gathered_.assign(static_cast<size_t>(parts.n_parts * equal.stride_), 0);
  equal.codes_ = equal.gathered_.data();
  in_stretches(0, parts.n_parts, 10.0, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      std::memcpy(equal.gathered_.data() + part * equal.stride_,
                  pairs.database + parts.members[parts.offsets[part]] * pairs.n_bytes, static_cast<size_t>(pairs.n_bytes));
    }
  });
  return equal;
}

}  // namespace dshc::cpu
