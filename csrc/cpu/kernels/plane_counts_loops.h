// PlaneKernels::count for one instruction set. The including file defines, in an anonymous namespace, the vector `Slice`
// of kSliceWords words and sum3, majority, and_not (a & ~b), any, lane_popcounts and add_sums for it.
#pragma once
#include "plane_counts.h"

namespace dshc::cpu {
namespace {

constexpr int kLowValues = 8;            // of the lowest three digits
constexpr int64_t kTableBytes = 20 << 10;  // of a batch, within the first-level cache
constexpr int64_t kSlices = kPlaneWords / kSliceWords;  // in a plane

inline Slice load_slice(const uint64_t* from) {
  Slice slice;
  __builtin_memcpy(&slice, from, sizeof slice);
  return slice;
}

// sum and a + b become digits of sum + a + b: the low one stays in sum, the high one is returned.
inline Slice add(Slice& sum, Slice a, Slice b) {
  const Slice carry = majority(sum, a, b);
  sum = sum3(sum, a, b);
  return carry;
}

template <Score score>
inline Slice compared(const uint64_t* plane, uint64_t query) {
  const Slice word = load_slice(plane), bit = query - Slice{};
  return score == Score::hamming ? word ^ bit : word & bit;
}

// The eights of eight planes; what is less stays in the lowest three digits.
template <Score score>
inline Slice add_8(Slice* digits, const uint64_t* planes, const uint64_t* query) {
  Slice twos[2];
  const auto pair = [&](int i) {
    return add(digits[0], compared<score>(planes + i * kPlaneWords, query[i]),
               compared<score>(planes + (i + 1) * kPlaneWords, query[i + 1]));
  };
  Slice fours[2];
  for (int half = 0; half < 2; ++half) {
    twos[0] = pair(4 * half);
    twos[1] = pair(4 * half + 2);
    fours[half] = add(digits[1], twos[0], twos[1]);
  }
  return add(digits[2], fours[0], fours[1]);
}

// values[v]: which items have the digits of v, lowest first.
inline void minterms(Slice a, Slice b, Slice c, Slice* values) {
  const Slice pairs[4] = {and_not(~a, b), and_not(a, b), and_not(b, a), a & b};
  for (int i = 0; i < 4; ++i) {
    values[i] = and_not(pairs[i], c);
    values[i + 4] = pairs[i] & c;
  }
}

// Writes, for one slice of a block, which items have each value of the low three digits of the count (kLowValues slices)
// and each value of the others (n_high slices).
template <Score score, int kHigh>
inline void tabulate(const uint64_t* planes, int32_t n_bytes, const uint64_t* query, Slice* low, Slice* high) {
  Slice digits[3 + kHigh] = {};
  int32_t byte = 0;
  for (; byte + 2 <= n_bytes; byte += 2) {
    const Slice a = add_8<score>(digits, planes + 8 * byte * kPlaneWords, query + 8 * byte);
    const Slice b = add_8<score>(digits, planes + 8 * (byte + 1) * kPlaneWords, query + 8 * (byte + 1));
    Slice carry = add(digits[3], a, b);
    for (int d = 4; d < 3 + kHigh; ++d) {
      const Slice next = digits[d] & carry;
      digits[d] ^= carry;
      carry = next;
    }
  }
  if (byte < n_bytes) {
    Slice carry = add_8<score>(digits, planes + 8 * byte * kPlaneWords, query + 8 * byte);
    for (int d = 3; d < 3 + kHigh; ++d) {
      const Slice next = digits[d] & carry;
      digits[d] ^= carry;
      carry = next;
    }
  }
  minterms(digits[0], digits[1], digits[2], low);
  // The other digits: the lowest three of them as above, under each value of those left.
  Slice eight[kLowValues];
  const Slice zero = {};
  minterms(digits[3], kHigh > 1 ? digits[4] : zero, kHigh > 2 ? digits[5] : zero, eight);
  for (int32_t first = 0; first <= n_bytes; first += kLowValues) {
    Slice prefix = ~zero;
    for (int d = 3; d < kHigh; ++d) prefix &= digits[3 + d] ^ (static_cast<uint64_t>(first >> d & 1) - 1 - zero);
    if (n_bytes - first >= kLowValues - 1) {
      for (int v = 0; v < kLowValues; ++v) high[first + v] = prefix & eight[v];
    } else {
      for (int32_t v = 0; v <= n_bytes - first; ++v) high[first + v] = prefix & eight[v];
    }
  }
}

// tables [n][kLowValues + n_high]
template <bool kMasked>
inline void count_tables(const Slice* tables, int64_t n, int32_t n_high, const Slice* masks, uint64_t* counts) {
  const int64_t stride = kLowValues + n_high;
  for (int32_t h = 0; h < n_high; ++h) {
    Slice sums[kLowValues] = {};
    bool found = false;
    for (int64_t i = 0; i < n; ++i) {
      const Slice* table = tables + i * stride;
      Slice high = table[kLowValues + h];
      if (kMasked) high &= masks[i];
      if (!any(high)) continue;
      found = true;
      for (int v = 0; v < kLowValues; ++v) sums[v] += lane_popcounts(high & table[v]);
    }
    if (found) add_sums(sums, counts + kLowValues * h);
  }
}

template <Score score, int kHigh>
void count_with(const CountCall& call) {
  const int32_t n_high = call.n_bytes + 1;
  const int64_t stride = kLowValues + n_high, plane_words = 8 * static_cast<int64_t>(call.n_bytes) * kPlaneWords;
  constexpr int64_t kMaxSlices = kTableBytes / static_cast<int64_t>(sizeof(Slice));
  Slice tables[kMaxSlices + kLowValues + kMaxSlicedBytes + 1];  // one slice's table always fits
  Slice masks[kMaxSlices];
  const int64_t batch = kMaxSlices / stride > 0 ? kMaxSlices / stride : 1, n = call.n_blocks * kSlices;
  for (int64_t first = 0; first < n; first += batch) {
    const int64_t n_batch = batch < n - first ? batch : n - first;
    for (int64_t i = 0; i < n_batch; ++i) {
      const int64_t block = (first + i) / kSlices, word = (first + i) % kSlices * kSliceWords;
      Slice* table = tables + i * stride;
      tabulate<score, kHigh>(call.planes + block * plane_words + word, call.n_bytes, call.query, table,
                             table + kLowValues);
      if (call.masks) masks[i] = load_slice(call.masks + block * kPlaneWords + word);
    }
    count_tables<false>(tables, n_batch, n_high, masks, call.items);
    if (call.masks) count_tables<true>(tables, n_batch, n_high, masks, call.masked);
  }
}

// Calls use.template run<score, kHigh>() with as many digits as the counts have beyond the lowest three.
template <Score score, class Use>
inline void with_digits_of(int32_t n_bytes, Use use) {
  if (n_bytes < 2) return use.template run<score, 1>();
  if (n_bytes < 4) return use.template run<score, 2>();
  if (n_bytes < 8) return use.template run<score, 3>();
  if (n_bytes < 16) return use.template run<score, 4>();
  if (n_bytes < 32) return use.template run<score, 5>();
  if (n_bytes < 64) return use.template run<score, 6>();
  if (n_bytes < 128) return use.template run<score, 7>();
  return use.template run<score, 8>();
}

template <class Use>
inline void with_digits(Score score, int32_t n_bytes, Use use) {
  if (score == Score::hamming) return with_digits_of<Score::hamming>(n_bytes, use);
  return with_digits_of<Score::overlap>(n_bytes, use);
}

struct Count {
  const CountCall& call;
  template <Score score, int kHigh>
  void run() const {
    count_with<score, kHigh>(call);
  }
};

void count(const CountCall& call) { with_digits(call.score, call.n_bytes, Count{call}); }

}  // namespace
}  // namespace dshc::cpu
