// The pace at which memory can be read: sums of 64-bit words in vectors of 64 bytes, in order, and as four streams at
// once. Compiled with -march=native. n is a multiple of 256.
#include <cstdint>

namespace {
typedef uint64_t Words __attribute__((vector_size(64), aligned(8)));

inline uint64_t total(const Words* sums, int n) {
  Words all = {};
  for (int i = 0; i < n; ++i) all += sums[i];
  uint64_t sum = 0;
  for (int lane = 0; lane < 8; ++lane) sum += all[lane];
  return sum;
}
}  // namespace

extern "C" uint64_t read_in_order(const uint64_t* words, int64_t n) {
  const Words* const lines = reinterpret_cast<const Words*>(words);
  Words sums[8] = {};
  for (int64_t i = 0; i < n / 8; i += 8) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) sums[j] += lines[i + j];
  }
  return total(sums, 8);
}

extern "C" uint64_t read_four_streams(const uint64_t* words, int64_t n) {
  const Words* const lines = reinterpret_cast<const Words*>(words);
  const int64_t quarter = n / 32;
  Words sums[8] = {};
  for (int64_t i = 0; i < quarter; i += 2) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Words* const at = lines + j * quarter + i;
      __builtin_prefetch(at + 32);
      __builtin_prefetch(at + 33);
      sums[2 * j] += at[0];
      sums[2 * j + 1] += at[1];
    }
  }
  return total(sums, 8);
}
