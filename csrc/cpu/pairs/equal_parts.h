// Which items have a part of their codes in common.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../../core/hamming_pairs.h"
#include "code_parts.h"

namespace dshc::cpu {

// Groups of two items and more: group g is members[ends[g - 1]] to members[ends[g] - 1], ascending.
struct Groups {
  std::vector<uint32_t> members;
  std::vector<int64_t> ends;
  double n_pairs = 0.0;  // of items of one group

  int64_t size() const { return static_cast<int64_t>(ends.size()); }
  int64_t begin(int64_t group) const { return group == 0 ? 0 : ends[static_cast<size_t>(group - 1)]; }
  int64_t end(int64_t group) const { return ends[static_cast<size_t>(group)]; }
};

// Groups the items of a call by one part of their codes after the other. Each item becomes a word, a hash of the part above
// and its number below, of which a radix sort by the uppermost bits makes buckets that fit in a cache; there, what shares a
// slot of a bitmap is put in order. Items of different parts may meet in a group, once in a great while.
class EqualParts {
 public:
  EqualParts(const CodeRows& codes, const CodeParts& parts, int n_threads);

  // The groups of a part, in some order, as lists from several threads.
  std::vector<Groups> find(int part);

 private:
  void sort_into_buckets(int part);

  const CodeRows& codes_;
  const CodeParts& parts_;
  int n_threads_;
  int index_bits_, bucket_bits_;
  int64_t n_ranges_;
  std::unique_ptr<uint64_t[]> words_, sorted_;  // [n] each
  std::vector<int64_t> cursors_;                // [n_ranges, buckets]
  std::vector<int64_t> buckets_;                // [buckets + 1] where each begins
};

}  // namespace dshc::cpu
