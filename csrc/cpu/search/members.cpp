#include "members.h"

#include <algorithm>
#include <vector>

#include "../call/call.h"

namespace dshc::cpu {
namespace {

struct Rest {  // of a part's members
  const int64_t *next, *end;
};

bool later(const Rest& a, const Rest& b) { return *a.next > *b.next; }

Rest members_of(const Partition& parts, int64_t part) {
  return {parts.members + parts.offsets[part], parts.members + parts.offsets[part + 1]};
}

}  // namespace

void write_members(const Partition& parts, const float* part_distances, const int64_t* numbers, int64_t n_found, int64_t k,
                   float* distances, int64_t* indices) {
  constexpr double kCopyNanoseconds = 1, kMergeNanoseconds = 50;  // an item
  std::vector<Rest> heap;
  int64_t written = 0;
  for (int64_t begin = 0, end; begin < n_found && written < k; begin = end) {
    end = begin + 1;
    while (end < n_found && part_distances[end] == part_distances[begin]) ++end;
    heap.clear();
    int64_t n_members = 0;
    for (int64_t i = begin; i < end; ++i) {
      heap.push_back(members_of(parts, numbers[i]));
      n_members += heap.back().end - heap.back().next;
    }
    const int64_t last = std::min(written + n_members, k);
    std::fill(distances + written, distances + last, part_distances[begin]);
    if (heap.size() == 1) {
      in_stretches(written, last, kCopyNanoseconds, [&](int64_t from, int64_t to) {
        std::copy(heap[0].next + (from - written), heap[0].next + (to - written), indices + from);
      });
    } else {
      std::make_heap(heap.begin(), heap.end(), later);
      in_stretches(written, last, kMergeNanoseconds, [&](int64_t from, int64_t to) {
        for (int64_t i = from; i < to; ++i) {
          std::pop_heap(heap.begin(), heap.end(), later);
          indices[i] = *heap.back().next++;
          if (heap.back().next == heap.back().end) {
            heap.pop_back();
          } else {
            std::push_heap(heap.begin(), heap.end(), later);
          }
        }
      });
    }
    written = last;
  }
}

}  // namespace dshc::cpu
