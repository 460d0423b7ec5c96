#include "nearest.h"

#include <algorithm>
#include <array>

#include "../call/call.h"

namespace dshc::cpu {
namespace {

// Digits of the bits of a distance, from the top: 0 <= bits < 2^31 + 1.
constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits, kPasses = 3;
constexpr uint32_t digit(uint32_t bits, int shift) { return bits >> shift & (kDigits - 1); }

bool nearer(const Candidate& a, const Candidate& b) { return a.bits != b.bits ? a.bits < b.bits : a.index < b.index; }

template <class Use>
void for_all(const std::vector<Candidate>& candidates, Use use) {
  in_stretches(0, static_cast<int64_t>(candidates.size()), 1.0, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) use(candidates[static_cast<size_t>(i)]);
  });
}

// The bits of the k-th nearest, and how many of its equals belong to the k nearest.
uint32_t kth_bits(const std::vector<Candidate>& candidates, size_t k, size_t* n_equal) {
  uint32_t found = 0, known = 0;
  size_t left = k;
  for (int shift = (kPasses - 1) * kDigitBits; shift >= 0; shift -= kDigitBits) {
    std::array<size_t, kDigits> counts{};
    for_all(candidates, [&](const Candidate& candidate) {
      counts[digit(candidate.bits, shift)] += (candidate.bits & known) == found;
    });
    uint32_t here = 0;
    while (counts[here] < left) left -= counts[here++];
    found |= here << shift;
    known |= static_cast<uint32_t>(kDigits - 1) << shift;
  }
  *n_equal = left;
  return found;
}

// Stable, so that equal distances stay in order of index.
void sort_by_bits(std::vector<Candidate>& candidates) {
  std::vector<Candidate> other;
  other.reserve(candidates.size());
  // Piece by piece, with stop points: its pages may be new.
  in_stretches(0, static_cast<int64_t>(candidates.size()), 8.0,
               [&](int64_t, int64_t last) { other.resize(static_cast<size_t>(last)); });
  for (int pass = 0; pass < kPasses; ++pass) {
    const int shift = pass * kDigitBits;
    std::array<size_t, kDigits> places{};
    for_all(candidates, [&](const Candidate& candidate) { ++places[digit(candidate.bits, shift)]; });
    size_t before = 0;
    for (size_t& place : places) {
      const size_t count = place;
      place = before;
      before += count;
    }
    for_all(candidates, [&](const Candidate& candidate) { other[places[digit(candidate.bits, shift)]++] = candidate; });
    candidates.swap(other);
  }
}

}  // namespace

void Nearest::take_all(Nearest& later) {
  for_all(later.finish(), [&](const Candidate& candidate) { take(candidate.bits, candidate.index); });
}

void Nearest::drop_hopeless() {
  if (few()) {
    std::nth_element(found_.begin(), found_.begin() + static_cast<std::ptrdiff_t>(k_) - 1, found_.end(), nearer);
    limit_ = found_[k_ - 1].bits;
    found_.resize(k_);
    return;
  }
  size_t n_equal = 0;
  limit_ = kth_bits(found_, k_, &n_equal);
  size_t kept = 0;
  for_all(found_, [&](const Candidate& candidate) {
    const bool equal = candidate.bits == limit_ && n_equal > 0;
    n_equal -= equal;
    if (candidate.bits < limit_ || equal) found_[kept++] = candidate;
  });
  found_.resize(kept);
}

const std::vector<Candidate>& Nearest::finish() {
  if (found_.size() > k_) drop_hopeless();
  if (few()) {
    std::sort(found_.begin(), found_.end(), nearer);
  } else {
    sort_by_bits(found_);
  }
  return found_;
}

}  // namespace dshc::cpu
