#include "equal_parts.h"

#include <algorithm>

#include "../call/blocks.h"
#include "../call/call.h"
#include "../call/fresh_memory.h"
#include "../call/threads.h"

namespace dshc::cpu {
namespace {

int bits_of(int64_t n) {  // that numbers below n need
  int bits = 1;
  while (int64_t{1} << bits < n) ++bits;
  return bits;
}

// The items of one bucket after the other.
class BucketGroups {
 public:
  BucketGroups(int bucket_bits, int index_bits) : bucket_bits_(bucket_bits), index_bits_(index_bits) {}

  void add(const uint64_t* words, int64_t n, Groups& groups) {
    if (n < 2) return;
    candidates_.resize(static_cast<size_t>(n));
    const int64_t n_candidates = pick(words, n);
    if (n_candidates < 2) return;
    put_in_order(n_candidates);
    const uint64_t index_mask = (uint64_t{1} << index_bits_) - 1;
    for (int64_t i = 0, next; i < n_candidates; i = next) {
      const uint64_t hash = candidates_[static_cast<size_t>(i)] >> index_bits_;
      for (next = i + 1; next < n_candidates && candidates_[static_cast<size_t>(next)] >> index_bits_ == hash;) ++next;
      if (next - i < 2) continue;
      for (int64_t j = i; j < next; ++j) {
        groups.members.push_back(static_cast<uint32_t>(candidates_[static_cast<size_t>(j)] & index_mask));
      }
      groups.ends.push_back(static_cast<int64_t>(groups.members.size()));
      groups.n_pairs += 0.5 * static_cast<double>(next - i) * static_cast<double>(next - i - 1);
    }
  }

 private:
  // Those that share a slot with another; most slots are empty.
  int64_t pick(const uint64_t* words, int64_t n) {
    constexpr int kSlotsPerItem = 4;  // as a power of two
    const int slot_bits = std::min(bits_of(n) + kSlotsPerItem, 64 - bucket_bits_ - index_bits_);
    const size_t n_slot_words = static_cast<size_t>(divide_up(int64_t{1} << slot_bits, 64));
    seen_.assign(n_slot_words, 0);
    shared_.assign(n_slot_words, 0);
    const auto slot_of = [&](uint64_t word) { return word << bucket_bits_ >> (64 - slot_bits); };
    uint64_t *seen = seen_.data(), *shared = shared_.data(), *candidates = candidates_.data();
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t slot = slot_of(words[i]), bit = uint64_t{1} << slot % 64;
      shared[slot / 64] |= seen[slot / 64] & bit;
      seen[slot / 64] |= bit;
    }
    int64_t n_candidates = 0;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t slot = slot_of(words[i]);
      candidates[n_candidates] = words[i];
      n_candidates += static_cast<int64_t>(shared[slot / 64] >> slot % 64 & 1);
    }
    return n_candidates;
  }

  // By a few more bits of the hash, which leave hardly two different ones together; equal ones come in order of index.
  void put_in_order(int64_t n) {
    constexpr int64_t kFew = 24;
    const int bits = std::min(bits_of(n), 64 - bucket_bits_ - index_bits_);
    if (n <= kFew) return std::sort(candidates_.begin(), candidates_.begin() + n);
    const auto digit_of = [&](uint64_t word) { return word << bucket_bits_ >> (64 - bits); };
    ends_.assign((size_t{1} << bits) + 1, 0);
    ordered_.resize(candidates_.size());
    for (int64_t i = 0; i < n; ++i) ++ends_[digit_of(candidates_[static_cast<size_t>(i)]) + 1];
    for (size_t d = 1; d < ends_.size(); ++d) ends_[d] += ends_[d - 1];
    for (int64_t i = 0; i < n; ++i) {  // begins become ends
      const uint64_t word = candidates_[static_cast<size_t>(i)];
      ordered_[static_cast<size_t>(ends_[digit_of(word)]++)] = word;
    }
    for (size_t d = 0, begin = 0; d + 1 < ends_.size(); begin = static_cast<size_t>(ends_[d++])) {
      const auto from = ordered_.begin() + static_cast<std::ptrdiff_t>(begin), to = ordered_.begin() + ends_[d];
      if (to - from > 1 && !std::is_sorted(from, to)) std::sort(from, to);
    }
    ordered_.swap(candidates_);
  }

  int bucket_bits_, index_bits_;
  std::vector<uint64_t> candidates_, seen_, shared_, ordered_;
  std::vector<int64_t> ends_;
};

}  // namespace

EqualParts::EqualParts(const CodeRows& codes, const CodeParts& parts, int n_threads)
    : codes_(codes), parts_(parts), n_threads_(n_threads), index_bits_(bits_of(codes.n)) {
  constexpr int kItemsPerBucket = 10, kMostBuckets = 13;  // as powers of two
  constexpr double kItemNanoseconds = 5.0;
  bucket_bits_ = std::clamp(index_bits_ - kItemsPerBucket, 1, kMostBuckets);
  n_ranges_ = std::min<int64_t>(task_count(codes.n, kItemNanoseconds, n_threads), std::max(n_threads, 1));
  words_.reset(new uint64_t[static_cast<size_t>(codes.n)]);
  sorted_.reset(new uint64_t[static_cast<size_t>(codes.n)]);
  expect_writes(words_.get(), 8 * codes.n);
  expect_writes(sorted_.get(), 8 * codes.n);
  buckets_.resize((size_t{1} << bucket_bits_) + 1);
  cursors_.resize(static_cast<size_t>(n_ranges_) << bucket_bits_);
}

void EqualParts::sort_into_buckets(int part) {
  const int64_t n = codes_.n, n_buckets = int64_t{1} << bucket_bits_;
  const auto range_begin = [&](int64_t range) { return n * range / n_ranges_; };
  const PartHash hash(codes_, parts_, part);
  const int shift = 64 - bucket_bits_;
  parallel_for(n_ranges_, n_threads_, [&](int64_t range) {
    int64_t* counts = cursors_.data() + range * n_buckets;
    std::fill(counts, counts + n_buckets, 0);
    in_stretches(range_begin(range), range_begin(range + 1), 3.0, [&](int64_t first, int64_t last) {
      uint64_t* words = words_.get();
      for (int64_t i = first; i < last; ++i) {
        words[i] = hash(i) >> index_bits_ << index_bits_ | static_cast<uint64_t>(i);
        ++counts[words[i] >> shift];
      }
    });
  });
  int64_t place = 0;
  for (int64_t bucket = 0; bucket < n_buckets; ++bucket) {
    buckets_[static_cast<size_t>(bucket)] = place;
    for (int64_t range = 0; range < n_ranges_; ++range) {
      int64_t& cursor = cursors_[static_cast<size_t>(range * n_buckets + bucket)];
      const int64_t count = cursor;
      cursor = place;
      place += count;
    }
  }
  buckets_[static_cast<size_t>(n_buckets)] = place;
  parallel_for(n_ranges_, n_threads_, [&](int64_t range) {
    int64_t* cursors = cursors_.data() + range * n_buckets;
    in_stretches(range_begin(range), range_begin(range + 1), 3.0, [&](int64_t first, int64_t last) {
      const uint64_t* words = words_.get();
      uint64_t* sorted = sorted_.get();
      for (int64_t i = first; i < last; ++i) sorted[cursors[words[i] >> shift]++] = words[i];
    });
  });
}

std::vector<Groups> EqualParts::find(int part) {
  constexpr int64_t kTaskItems = 1 << 16;
  sort_into_buckets(part);
  const int64_t n_buckets = int64_t{1} << bucket_bits_;
  const int64_t n_tasks = std::clamp<int64_t>(codes_.n / kTaskItems, 1, n_buckets);
  std::vector<Groups> found(static_cast<size_t>(n_tasks));
  parallel_for(n_tasks, n_threads_, [&](int64_t task) {
    BucketGroups groups(bucket_bits_, index_bits_);
    for (int64_t b = n_buckets * task / n_tasks; b < n_buckets * (task + 1) / n_tasks; ++b) {
      const int64_t begin = buckets_[static_cast<size_t>(b)], end = buckets_[static_cast<size_t>(b + 1)];
      stop_point(5.0 * static_cast<double>(end - begin));
      groups.add(sorted_.get() + begin, end - begin, found[static_cast<size_t>(task)]);
    }
  });
  return found;
}

}  // namespace dshc::cpu
