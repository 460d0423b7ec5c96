#include "sliced_order.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "../../common/average_precision.h"
#include "../call/call.h"
#include "../call/threads.h"
#include "scan.h"

namespace dshc::cpu {

namespace {
constexpr int64_t kCached = 1 << 20;        // bytes of planes that a query may pass whole
constexpr int64_t kChunkBytes = 256 << 10;  // else: of planes that the queries of a group pass in turn
}  // namespace

SlicedOrder::SlicedOrder(const Pairs& pairs, const Relevance& relevance, int64_t max_labels, int n_threads)
    : pairs_(pairs),
      n_blocks_((pairs.n_db + kPlaneItems - 1) / kPlaneItems),
      lane_items_(64 * n_blocks_),
      labels_(pairs, relevance, max_labels, n_threads) {
  if (!labels_.found()) return;
  pays_ = true;
  slice(n_threads);
  place_items();
}

void SlicedOrder::slice(int n_threads) {
  const int32_t n_bytes = pairs_.n_bytes;
  planes_.resize(n_blocks_, n_bytes);
  const int64_t n_tasks = task_count(n_blocks_, 5e3 * n_bytes / 8 + 1e3, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    for (int64_t block = n_blocks_ * task / n_tasks; block < n_blocks_ * (task + 1) / n_tasks; ++block) {
      for (int64_t w = 0; w < kPlaneWords; ++w) {
        const int64_t first = std::min(item(block, w), pairs_.n_db), n = std::min<int64_t>(pairs_.n_db - first, 64);
        slice_word(pairs_.database + first * n_bytes, n, n_bytes, w, planes_.block(block));
      }
    }
  });
}

void SlicedOrder::place_items() {
  const Partition& labels = labels_.parts();
  const int64_t stride = StridedCodes(pairs_.n_bytes).stride();
  std::vector<uint32_t> label_of(static_cast<size_t>(pairs_.n_db));
  for (int64_t label = 0; label < labels.n_parts; ++label) {
    for (int64_t m = labels.offsets[label]; m < labels.offsets[label + 1]; ++m) {
      label_of[static_cast<size_t>(labels.members[m])] = static_cast<uint32_t>(label);
    }
  }
  std::vector<int64_t> next(labels.offsets, labels.offsets + labels.n_parts);
  places_.resize(static_cast<size_t>(pairs_.n_db));
  codes_.assign(static_cast<size_t>(pairs_.n_db * stride), 0);
  for (int64_t block = 0; block < n_blocks_; ++block) {
    stop_point(5.0 * kPlaneItems);
    for (int64_t w = 0; w < kPlaneWords; ++w) {
      const int64_t first = item(block, w), end = std::min(first + 64, pairs_.n_db);
      for (int64_t i = first; i < end; ++i) {
        const int64_t to = next[label_of[static_cast<size_t>(i)]]++;
        places_[static_cast<size_t>(to)] = static_cast<uint32_t>(block * kPlaneItems + w * 64 + i - first);
        std::memcpy(codes_.data() + to * stride, pairs_.database + i * pairs_.n_bytes, static_cast<size_t>(pairs_.n_bytes));
      }
    }
  }
}

// One query: its counters while the blocks are walked, and its answer.
class SlicedOrder::Walker {
 public:
  explicit Walker(const SlicedOrder& order)
      : order_(order),
        n_slots_(static_cast<size_t>((8 * order.pairs_.n_bytes + 8) * kPlaneWords)),
        bits_(static_cast<size_t>(8 * order.pairs_.n_bytes)),
        code_(static_cast<size_t>(StridedCodes(order.pairs_.n_bytes).stride()), 0),
        seen_(n_slots_),
        relevant_(n_slots_) {}

  void start(int64_t query) {
    const Pairs& pairs = order_.pairs_;
    const uint8_t* code = pairs.queries + query * pairs.n_bytes;
    spread_bits(code, pairs.n_bytes, bits_.data());
    std::memcpy(code_.data(), code, static_cast<size_t>(pairs.n_bytes));
    std::fill(seen_.begin(), seen_.end(), uint64_t{0});
    std::fill(relevant_.begin(), relevant_.end(), 0u);
    begin_ = end_ = at_ = 0;
    order_.labels_.for_each_relevant(query, [&](int64_t label) {  // a class id is one label at most
      begin_ = order_.labels_.parts().offsets[label];
      end_ = order_.labels_.parts().offsets[label + 1];
    });
    const size_t n = static_cast<size_t>(end_ - begin_);
    if (slots_.size() < n) {
      for (auto* wide : {&items_before_, &relevant_before_}) wide->resize(n);
      for (auto* narrow : {&counts_, &slots_}) narrow->resize(n);
    }
    if (n == 0) return;
    const int32_t stride = static_cast<int32_t>(code_.size());
    const uint16_t top = static_cast<uint16_t>(8 * pairs.n_bytes);
    level().rank->rank_row(pairs.score, code_.data(), order_.codes_.data() + begin_ * stride, end_ - begin_, stride, top,
                    counts_.data());
    if (pairs.score == Score::hamming) return;
    for (size_t j = 0; j < n; ++j) counts_[j] = static_cast<uint16_t>(top - counts_[j]);
  }

  // `matches` is room that no query keeps anything in.
  void walk(int64_t first_block, int64_t end_block, std::vector<uint64_t>& matches) {
    const uint32_t* places = order_.places_.data() + begin_;
    const uint32_t end_place = static_cast<uint32_t>(end_block * kPlaneItems);
    const int64_t next = std::lower_bound(places + at_, places + (end_ - begin_), end_place) - places;
    level().planes->walk({order_.pairs_.score, order_.pairs_.n_bytes, order_.planes_.block(first_block),
                          end_block - first_block, bits_.data(), first_block, next - at_, places + at_, counts_.data() + at_,
                          matches.data(), seen_.data(), relevant_.data(), slots_.data() + at_, items_before_.data() + at_,
                          relevant_before_.data() + at_});
    at_ = next;
  }

  double finish(int64_t k, Denominator denominator) {
    const Pairs& pairs = order_.pairs_;
    if (begin_ == end_) return std::numeric_limits<double>::quiet_NaN();
    // Padding items are codes of zeros behind all items of their lanes.
    const int64_t padding_count =
        pairs.score == Score::hamming ? std::count(bits_.begin(), bits_.end(), ~uint64_t{0}) : 0;
    for (int64_t w = 0; w < kPlaneWords; ++w) {
      const int64_t there = std::clamp<int64_t>(pairs.n_db - w * order_.lane_items_, 0, order_.lane_items_);
      seen_[static_cast<size_t>(padding_count * kPlaneWords + w)] -= static_cast<uint64_t>(order_.lane_items_ - there);
    }
    items_base_.resize(n_slots_);
    relevant_base_.resize(n_slots_);
    uint32_t items = 0, relevant = 0;
    for (int32_t value = 0; value < n_rank_values(pairs); ++value) {
      size_t slot = static_cast<size_t>(count_of(pairs, value) * kPlaneWords);
      for (int64_t w = 0; w < kPlaneWords; ++w, ++slot) {
        items_base_[slot] = items;
        relevant_base_[slot] = relevant;
        items += static_cast<uint32_t>(seen_[slot]);
        relevant += relevant_[slot];
      }
    }
    k = std::min(k, pairs.n_db);
    const PrecisionSum found = level().planes->sum_precisions({end_ - begin_, k, slots_.data(), items_before_.data(),
                                                               relevant_before_.data(), items_base_.data(),
                                                               relevant_base_.data()});
    return divide_precisions(found.sum, found.n_taken, end_ - begin_, k, denominator);
  }

 private:
  const SlicedOrder& order_;
  size_t n_slots_;
  std::vector<uint64_t> bits_;
  std::vector<uint8_t> code_;
  std::vector<uint64_t> seen_;
  std::vector<uint32_t> relevant_, items_base_, relevant_base_;
  int64_t begin_ = 0, end_ = 0;  // of the query's class in places_
  int64_t at_ = 0;               // the next of these items
  std::vector<uint16_t> counts_, slots_;
  std::vector<uint32_t> items_before_, relevant_before_;
};

void SlicedOrder::average_precision(int64_t k, Denominator denominator, double* result, int n_threads) const {
  const int64_t block_bytes = 8 * pairs_.n_bytes * kPlaneWords * 8;
  const bool cached = n_blocks_ * block_bytes <= kCached;
  const int64_t group = cached ? 1 : 8, chunk = cached ? n_blocks_ : std::max<int64_t>(kChunkBytes / block_bytes, 1);
  const int64_t n_groups = (pairs_.n_query + group - 1) / group, n_tasks = std::min<int64_t>(n_groups, 4 * n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    std::vector<Walker> walkers(static_cast<size_t>(group), Walker(*this));
    std::vector<uint64_t> matches(static_cast<size_t>((8 * pairs_.n_bytes + 8) * kPlaneWords));
    for (int64_t g = n_groups * task / n_tasks; g < n_groups * (task + 1) / n_tasks; ++g) {
      const int64_t begin = g * group, end = std::min(begin + group, pairs_.n_query);
      const auto walker = [&](int64_t q) -> Walker& { return walkers[static_cast<size_t>(q - begin)]; };
      for (int64_t q = begin; q < end; ++q) walker(q).start(q);
      for (int64_t first = 0; first < n_blocks_; first += chunk) {
        for (int64_t q = begin; q < end; ++q) {
          stop_point(5.0 * static_cast<double>(8 * pairs_.n_bytes * std::min(chunk, n_blocks_ - first)));
          walker(q).walk(first, std::min(first + chunk, n_blocks_), matches);
        }
      }
      for (int64_t q = begin; q < end; ++q) result[q] = walker(q).finish(k, denominator);
    }
  });
}

}  // namespace dshc::cpu
