// What any processor of the architecture runs, without a popcount instruction: XOR, the bit-parallel sum of the bits of a
// word, compare and branch.
#include "limits.h"

namespace {

inline uint64_t popcount(uint32_t x) {
  x -= x >> 1 & 0x55555555u;
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  x = (x + (x >> 4)) & 0x0F0F0F0Fu;
  return x * 0x01010101u >> 24;
}

inline uint64_t popcount(uint64_t x) {
  x -= x >> 1 & 0x5555555555555555ull;
  x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
  return x * 0x0101010101010101ull >> 56;
}

template <class Lane, int kWords>
uint64_t filter(const void* queries, int64_t n_query, const void* codes, int64_t n, uint64_t bound) {
  const Lane* const all_codes = static_cast<const Lane*>(codes);
  uint64_t found = 0;
  for (int64_t q = 0; q < n_query; ++q) {
    Lane query[kWords];
    for (int w = 0; w < kWords; ++w) query[w] = static_cast<const Lane*>(queries)[q * kWords + w];
    for (int64_t i = 0; i < n; i += 4) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) {
        uint64_t distance = 0;
        for (int w = 0; w < kWords; ++w) distance += popcount(static_cast<Lane>(query[w] ^ all_codes[w * n + i + u]));
        if (__builtin_expect(distance < bound, 0)) ++found;
      }
    }
  }
  return found;
}

}  // namespace

DSHC_LIMIT(filter_generic) { DSHC_LIMIT_BY_LENGTH(filter, queries, n_query, codes, n, bound) }
