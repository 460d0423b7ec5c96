#include "code_centers.h"

#include <algorithm>
#include <cstring>

#include "../call/call.h"
#include "../kernels/level.h"

namespace dshc::cpu {

namespace {
constexpr int32_t kReach = 2;        // two codes that are one bit from a center
constexpr int64_t kFewest = 1024;    // distinct codes; fewer are compared as fast
constexpr int64_t kMost = 1 << 20;   // of more the search for centers would take seconds
constexpr int64_t kCodesEach = 8;    // a center must spare so many comparisons on average
constexpr int64_t kMostCenters = 4096;
}  // namespace

OwnedPartCodes::OwnedPartCodes(const uint8_t* rows, int32_t row_bytes, const Partition& parts) {
  const Call call;
  const size_t n = static_cast<size_t>(parts.n_parts), width = static_cast<size_t>(row_bytes);
  rows_.reserve(n * width);
  in_stretches(0, parts.n_parts, 10.0, [&](int64_t first, int64_t last) {
    rows_.resize(static_cast<size_t>(last) * width);
    for (int64_t part = first; part < last; ++part) {
      std::memcpy(rows_.data() + part * row_bytes, rows + parts.members[parts.offsets[part]] * row_bytes, width);
    }
  });
  view_.rows = rows_.data();
  std::vector<uint32_t> center_of;
  if (!find_centers(parts.n_parts, row_bytes, center_of)) {
    std::vector<uint8_t>().swap(centers_);
    return;
  }
  centers_.shrink_to_fit();
  const size_t n_centers = centers_.size() / width;
  begins_.assign(n_centers + 1, 0);
  for (const uint32_t center : center_of) ++begins_[center + 1];
  for (size_t c = 0; c < n_centers; ++c) begins_[c + 1] += begins_[c];
  std::vector<uint32_t> next(begins_.begin(), begins_.end() - 1);
  near_rows_.resize(n * width);
  near_parts_.resize(n);
  in_stretches(0, parts.n_parts, 10.0, [&](int64_t first, int64_t last) {
    for (auto part = static_cast<size_t>(first); part < static_cast<size_t>(last); ++part) {
      const uint32_t place = next[center_of[part]]++;
      near_parts_[place] = static_cast<uint32_t>(part);
      std::memcpy(near_rows_.data() + place * width, rows_.data() + part * width, width);
    }
  });
  view_.near_rows = near_rows_.data();
  view_.near_parts = near_parts_.data();
  view_.centers = centers_.data();
  view_.begins = begins_.data();
  view_.n_centers = static_cast<int64_t>(n_centers);
  view_.reach = kReach;
}

bool OwnedPartCodes::find_centers(int64_t n_parts, int32_t row_bytes, std::vector<uint32_t>& center_of) {
  if (n_parts < kFewest || n_parts > kMost) return false;
  const int64_t most = std::min(n_parts / kCodesEach, kMostCenters);
  const size_t width = static_cast<size_t>(row_bytes);
  centers_.reserve(static_cast<size_t>(most) * width);
  center_of.reserve(static_cast<size_t>(n_parts));
  std::vector<uint16_t> values(static_cast<size_t>(most));
  std::vector<uint32_t> near(static_cast<size_t>(most));
  int64_t n_centers = 0;
  for (int64_t part = 0; part < n_parts; ++part) {
    const uint8_t* row = rows_.data() + part * row_bytes;
    stop_point(static_cast<double>(n_centers));
    level().rank->rank_row(Score::hamming, row, centers_.data(), n_centers, row_bytes, 0, values.data());
    if (level().rank->select_between(values.data(), n_centers, 0, kReach + 1, near.data()) > 0) {
      center_of.push_back(near[0]);
      continue;
    }
    if (n_centers == most) return false;
    centers_.insert(centers_.end(), row, row + width);
    center_of.push_back(static_cast<uint32_t>(n_centers++));
  }
  return true;
}

int64_t OwnedPartCodes::n_bytes() const {
  const size_t words = near_parts_.size() + begins_.size();
  return static_cast<int64_t>(rows_.size() + near_rows_.size() + centers_.size() + 4 * words);
}

}  // namespace dshc::cpu
