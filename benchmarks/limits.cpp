// What this processor can do at most, for the share of the limit that a benchmark prints: XOR, popcount and add (count),
// XOR, popcount, compare with a bound and count the survivors (filter), over codes in the first-level cache. Compiled with
// -O3 -march=native when a benchmark starts; the compiler turns the popcount into the vector one where there is one.
#include <cstdint>

extern "C" {

uint64_t count_pairs(const uint64_t* queries, int64_t n_query, const uint64_t* codes, int64_t n) {
  uint64_t sum = 0;
  for (int64_t q = 0; q < n_query; ++q) {
    for (int64_t i = 0; i < n; ++i) sum += static_cast<uint64_t>(__builtin_popcountll(queries[q] ^ codes[i]));
  }
  return sum;
}

uint64_t filter_pairs(const uint64_t* queries, int64_t n_query, const uint64_t* codes, int64_t n, uint64_t bound) {
  uint64_t found = 0;
  for (int64_t q = 0; q < n_query; ++q) {
    for (int64_t i = 0; i < n; ++i) {
      found += static_cast<uint64_t>(__builtin_popcountll(queries[q] ^ codes[i])) < bound;
    }
  }
  return found;
}

}  // extern "C"
