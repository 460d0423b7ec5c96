#include "sliced.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"
#include "../call/threads.h"
#include "scan.h"

namespace dshc::cpu {

namespace {
constexpr int64_t kChunkBytes = 128 << 10;     // of planes, that all queries of a group pass before the next chunk
constexpr uint64_t kAll = ~uint64_t{0};
}  // namespace

SlicedDatabase::SlicedDatabase(const Pairs& pairs, const Relevance& relevance, int64_t max_labels, int n_threads)
    : pairs_(pairs),
      relevance_(relevance),
      n_values_(n_rank_values(pairs)),
      n_blocks_((pairs.n_db + kPlaneItems - 1) / kPlaneItems) {
  if (relevance.database_ids) {
    labels_ = std::make_unique<DatabaseLabels>(pairs, relevance, max_labels, n_threads);
    if (!labels_->found()) return;
  } else {
    label_planes_.resize(n_blocks_, 8 * relevance.n_words);
  }
  pays_ = true;
  planes_.resize(n_blocks_, pairs.n_bytes);
  const int64_t n_tasks = task_count(n_blocks_, 5e3 * pairs.n_bytes / 8 + 1e3, n_threads);
  parallel_for(n_tasks, n_threads,
               [&](int64_t task) { slice(n_blocks_ * task / n_tasks, n_blocks_ * (task + 1) / n_tasks); });
}

void SlicedDatabase::slice(int64_t first_block, int64_t end_block) {
  const int32_t n_bytes = pairs_.n_bytes;
  std::vector<uint8_t> codes(static_cast<size_t>(64 * n_bytes));
  for (int64_t word = first_block * kPlaneWords; word < end_block * kPlaneWords; ++word) {
    const int64_t block = word / kPlaneWords, w = word % kPlaneWords;
    const int64_t first = std::min(64 * word, pairs_.n_db), n = std::min<int64_t>(pairs_.n_db - first, 64);
    if (!labels_) {
      slice_word(pairs_.database + first * n_bytes, n, n_bytes, w, planes_.block(block));
      const uint64_t* labels = relevance_.database_words + first * relevance_.n_words;
      slice_word(reinterpret_cast<const uint8_t*>(labels), n, 8 * relevance_.n_words, w, label_planes_.block(block));
      continue;
    }
    const int64_t* members = labels_->parts().members + first;
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(codes.data() + i * n_bytes, pairs_.database + members[i] * n_bytes, static_cast<size_t>(n_bytes));
    }
    slice_word(codes.data(), n, n_bytes, w, planes_.block(block));
  }
}

SlicedDatabase::Counter::Counter(const SlicedDatabase& database, int64_t begin, int64_t end)
    : database_(database),
      begin_(begin),
      end_(end),
      n_bits_(8 * database.pairs_.n_bytes),
      bits_(static_cast<size_t>((end - begin) * n_bits_)),
      counts_(static_cast<size_t>((end - begin) * 2 * (n_bits_ + 8)), 0),
      ranges_(static_cast<size_t>(end - begin)),
      query_labels_(static_cast<size_t>(end - begin)),
      items_(static_cast<size_t>((end - begin) * database.n_values_)),
      relevant_(items_.size()) {
  const Relevance& relevance = database.relevance_;
  for (int64_t q = begin; q < end; ++q) {
    const size_t at = static_cast<size_t>(q - begin);
    const uint8_t* code = database.pairs_.queries + q * database.pairs_.n_bytes;
    spread_bits(code, database.pairs_.n_bytes, bits_.data() + (q - begin) * n_bits_);
    if (database.labels_) {
      const int64_t* offsets = database.labels_->parts().offsets;
      database.labels_->for_each_relevant(  // a class id is one label at most
          q, [&](int64_t label) { ranges_[at] = {offsets[label], offsets[label + 1]}; });
      continue;
    }
    for (int32_t label = 0; label < 64 * relevance.n_words; ++label) {
      if (relevance.query_words[q * relevance.n_words + label / 64] >> (label % 64) & 1) query_labels_[at].push_back(label);
    }
  }
}

void SlicedDatabase::Counter::count() {
  const int64_t chunk = std::max<int64_t>(kChunkBytes / (n_bits_ * kPlaneWords * 8), 1), n_blocks = database_.n_blocks_;
  for (int64_t first = 0; first < n_blocks; first += chunk) {
    for (int64_t q = begin_; q < end_; ++q) {
      stop_point(3.0 * static_cast<double>(n_bits_ * std::min(chunk, n_blocks - first)));
      count_chunk(q, first, std::min(first + chunk, n_blocks));
    }
  }
  const Pairs& pairs = database_.pairs_;
  const int64_t padding = n_blocks * kPlaneItems - pairs.n_db;
  for (int64_t q = begin_; q < end_; ++q) {
    uint64_t* counts = counts_.data() + (q - begin_) * 2 * (n_bits_ + 8);
    const auto bits = bits_.begin() + (q - begin_) * n_bits_;
    // Padding items are codes of zeros.
    const int64_t at = pairs.score == Score::hamming ? std::count(bits, bits + n_bits_, kAll) : 0;
    counts[at] -= static_cast<uint64_t>(padding);
    for (int32_t value = 0; value < database_.n_values_; ++value) {
      const size_t to = static_cast<size_t>((q - begin_) * database_.n_values_ + value);
      items_[to] = static_cast<int64_t>(counts[count_of(pairs, value)]);
      relevant_[to] = static_cast<int64_t>(counts[n_bits_ + 8 + count_of(pairs, value)]);
    }
  }
}

void SlicedDatabase::Counter::mark(int64_t query, int64_t first_block, int64_t end_block) {
  masks_.assign(static_cast<size_t>((end_block - first_block) * kPlaneWords), 0);
  const size_t at = static_cast<size_t>(query - begin_);
  if (database_.labels_) return mark_range(ranges_[at], first_block * kPlaneItems, end_block * kPlaneItems);
  for (int64_t block = first_block; block < end_block; ++block) {
    uint64_t* words = masks_.data() + (block - first_block) * kPlaneWords;
    for (const int32_t label : query_labels_[at]) {
      const uint64_t* plane = database_.label_planes_.block(block) + label * kPlaneWords;
      for (int64_t w = 0; w < kPlaneWords; ++w) words[w] |= plane[w];
    }
  }
}

void SlicedDatabase::Counter::mark_range(Range range, int64_t first_item, int64_t end_item) {
  const int64_t begin = std::max(range.begin, first_item) - first_item, end = std::min(range.end, end_item) - first_item;
  if (begin >= end) return;
  const size_t first = static_cast<size_t>(begin / 64), last = static_cast<size_t>((end - 1) / 64);
  const uint64_t head = kAll << (begin % 64), tail = kAll >> (63 - (end - 1) % 64);
  if (first == last) {
    masks_[first] = head & tail;
    return;
  }
  masks_[first] = head;
  std::fill(masks_.begin() + static_cast<int64_t>(first) + 1, masks_.begin() + static_cast<int64_t>(last), kAll);
  masks_[last] = tail;
}

void SlicedDatabase::Counter::count_chunk(int64_t query, int64_t first_block, int64_t end_block) {
  enum class Kind { none, all, some };
  mark(query, first_block, end_block);
  const auto kind = [&](int64_t block) {
    const uint64_t* words = masks_.data() + (block - first_block) * kPlaneWords;
    uint64_t any = 0, every = kAll;
    for (int64_t w = 0; w < kPlaneWords; ++w) {
      any |= words[w];
      every &= words[w];
    }
    return any == 0 ? Kind::none : (every == kAll ? Kind::all : Kind::some);
  };
  uint64_t* counts = counts_.data() + (query - begin_) * 2 * (n_bits_ + 8);
  std::vector<uint64_t> all(static_cast<size_t>(n_bits_ + 8));
  for (int64_t begin = first_block, end = 0; begin < end_block; begin = end) {
    const Kind run = kind(begin);
    for (end = begin + 1; end < end_block && kind(end) == run;) ++end;
    CountCall call{database_.pairs_.score,
                    database_.pairs_.n_bytes,
                    database_.planes_.block(begin),
                    end - begin,
                    bits_.data() + (query - begin_) * n_bits_,
                    nullptr,
                    counts,
                    counts + n_bits_ + 8};
    if (run == Kind::all) {
      std::fill(all.begin(), all.end(), uint64_t{0});
      call.items = all.data();
    } else if (run == Kind::some) {
      call.masks = masks_.data() + (begin - first_block) * kPlaneWords;
    }
    level().planes->count(call);
    if (run == Kind::all) {
      for (size_t c = 0; c < all.size(); ++c) {
        counts[c] += all[c];
        counts[static_cast<size_t>(n_bits_ + 8) + c] += all[c];
      }
    }
  }
}

}  // namespace dshc::cpu
