#include "pair_rows.h"

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <utility>

#include "../call/call.h"
#include "../call/threads.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace dshc::cpu {
namespace {

class TooManyPairs : public std::bad_alloc {
 public:
  explicit TooManyPairs(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// A number behind a word in a small file of the system; -1: there is none.
double number_in(const char* path, const char* format) {
  std::FILE* file = std::fopen(path, "r");
  if (!file) return -1.0;
  char line[128];
  double value = -1.0;
  while (value < 0.0 && std::fgets(line, sizeof line, file)) {
    double number;
    if (std::sscanf(line, format, &number) == 1) value = number;
  }
  std::fclose(file);
  return value;
}

// What can be had without pushing anything else out, and no more than a container may have in all.
double available_bytes() {
  double bytes = 1e18;
#if defined(_SC_PHYS_PAGES)
  bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
#endif
  if (const double kilobytes = number_in("/proc/meminfo", "MemAvailable: %lf"); kilobytes >= 0.0) bytes = 1024.0 * kilobytes;
  if (const double most = number_in("/sys/fs/cgroup/memory.max", "%lf"); most > 0.0) bytes = std::min(bytes, most);
  return bytes;
}


std::string with_point(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

}  // namespace

PairRoom::PairRoom() : bytes_(available_bytes()) {}

void PairRoom::refuse(double n_pairs, double pair_bytes) const {
  char pairs[32];
  std::snprintf(pairs, sizeof pairs, "%.0f", n_pairs);
  throw TooManyPairs("radius must be so small that the pairs within it fit in memory (" + with_point(pair_bytes * n_pairs / 1e9) +
                     " GB for " + pairs + " pairs, of which " + with_point(bytes_ / 1e9) + " GB are free)");
}

PairRows rows_of_pairs(std::vector<std::vector<FoundPair>>&& found, int64_t n, int64_t* offsets, int n_threads) {
  PairRows rows{n, offsets, std::max<int64_t>(n, 1), {}};
  std::fill(offsets, offsets + n + 1, 0);
  int64_t n_pairs = 0;
  for (const std::vector<FoundPair>& list : found) {
    n_pairs += static_cast<int64_t>(list.size());
    // One place on: filling the rows moves each begin to its end, which is the next one's begin.
    in_stretches(0, static_cast<int64_t>(list.size()), 3.0, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) ++offsets[list[static_cast<size_t>(p)].first + 1];
    });
  }
  rows.keys.emplace_back(new Key[static_cast<size_t>(n_pairs)]);
  Key* const keys = rows.keys[0].get();
  int64_t place = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t size = offsets[i + 1];
    offsets[i + 1] = place;
    place += size;
  }
  for (std::vector<FoundPair>& list : found) {
    in_stretches(0, static_cast<int64_t>(list.size()), 5.0, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p) {
        const FoundPair& pair = list[static_cast<size_t>(p)];
        keys[offsets[pair.first + 1]++] = make_key(pair.distance, pair.second);
      }
    });
    std::vector<FoundPair>().swap(list);
  }
  const double pairs_per_row = static_cast<double>(n_pairs) / static_cast<double>(std::max<int64_t>(n, 1));
  const int64_t n_tasks = task_count(n, 2.0 + 20.0 * pairs_per_row, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    in_stretches(n * task / n_tasks, n * (task + 1) / n_tasks, 2.0, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        if (offsets[i + 1] - offsets[i] < 2) continue;
        stop_point(20.0 * static_cast<double>(offsets[i + 1] - offsets[i]));
        if (!std::is_sorted(keys + offsets[i], keys + offsets[i + 1])) std::sort(keys + offsets[i], keys + offsets[i + 1]);
      }
    });
  });
  return rows;
}

}  // namespace dshc::cpu
