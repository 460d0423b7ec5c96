#include "grouped.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"
#include "../kernels/level.h"

namespace dshc::cpu {

namespace {
constexpr int64_t kRepeats = 4;  // items a distinct code, from which a weighted count beats counting the items
}

GroupedDatabase::GroupedDatabase(const Pairs& pairs, const Relevance& relevance, int n_threads)
    : pairs_(pairs),
      equal_(EqualCodes::find(pairs, kRepeats, n_threads)),
      labels_(pairs, relevance, equal_.found() ? pairs.n_db : 0, n_threads) {
  if (!labels_.found()) return;
  group_labels();
  pays_ = true;
}

// The members of each label are walked with their codes at hand, so that the entries come out ordered by label.
void GroupedDatabase::group_labels() {
  const Partition& codes = equal_.parts();
  const Partition& labels = labels_.parts();
  std::vector<uint32_t> code_of(static_cast<size_t>(pairs_.n_db));  // fewer than n_db / kRepeats codes
  for (int64_t code = 0; code < codes.n_parts; ++code) {
    stop_point(5.0 * static_cast<double>(codes.offsets[code + 1] - codes.offsets[code]));
    for (int64_t m = codes.offsets[code]; m < codes.offsets[code + 1]; ++m) {
      code_of[static_cast<size_t>(codes.members[m])] = static_cast<uint32_t>(code);
    }
  }
  std::vector<int64_t> entry_of(static_cast<size_t>(codes.n_parts), -1);  // the code's last entry
  for (int64_t label = 0; label < labels.n_parts; ++label) {
    const int64_t begin = static_cast<int64_t>(entries_.size());
    label_begins_.push_back(begin);
    in_stretches(labels.offsets[label], labels.offsets[label + 1], 10.0, [&](int64_t first, int64_t last) {
      for (int64_t m = first; m < last; ++m) {
        const int64_t code = code_of[static_cast<size_t>(labels.members[m])];
        int64_t& entry = entry_of[static_cast<size_t>(code)];
        if (entry < begin) {
          entry = static_cast<int64_t>(entries_.size());
          entries_.push_back({code, 0});
        }
        ++entries_[static_cast<size_t>(entry)].n_items;
      }
    });
  }
  label_begins_.push_back(static_cast<int64_t>(entries_.size()));
}

GroupedDatabase::Counter::Counter(const GroupedDatabase& database)
    : database_(database),
      query_(static_cast<size_t>(StridedCodes(database.pairs_.n_bytes).stride()), 0),
      row_(static_cast<size_t>(database.equal_.parts().n_parts)),
      items_(static_cast<size_t>(n_rank_values(database.pairs_))),
      relevant_(items_.size()) {}

void GroupedDatabase::Counter::count(int64_t query) {
  const Pairs& pairs = database_.pairs_;
  const Partition& codes = database_.equal_.parts();
  stop_point(static_cast<double>(codes.n_parts));
  const uint8_t* code = pairs.queries + query * pairs.n_bytes;
  const size_t n_bytes = static_cast<size_t>(pairs.n_bytes);
  if (!has_query_ || std::memcmp(query_.data(), code, n_bytes) != 0) {  // equal codes come beside each other
    std::memcpy(query_.data(), code, n_bytes);
    has_query_ = true;
    level().rank->rank_row(pairs.score, query_.data(), database_.equal_.codes(), codes.n_parts,
                    static_cast<int32_t>(query_.size()), static_cast<uint16_t>(8 * pairs.n_bytes), row_.data());
    std::fill(items_.begin(), items_.end(), int64_t{0});
    for (int64_t c = 0; c < codes.n_parts; ++c) {
      items_[row_[static_cast<size_t>(c)]] += codes.offsets[c + 1] - codes.offsets[c];
    }
  }
  std::fill(relevant_.begin(), relevant_.end(), int64_t{0});
  database_.labels_.for_each_relevant(query, [&](int64_t label) {
    const Entry* entry = database_.entries_.data() + database_.label_begins_[static_cast<size_t>(label)];
    const Entry* end = database_.entries_.data() + database_.label_begins_[static_cast<size_t>(label) + 1];
    for (; entry < end; ++entry) relevant_[row_[static_cast<size_t>(entry->code)]] += entry->n_items;
  });
}

}  // namespace dshc::cpu
