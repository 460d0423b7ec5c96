// Slices of 256 bits; popcounts by table look-up, summed to words by vpsadbw.
#include <immintrin.h>

#include <cstdint>

#include "byte_popcount.h"

namespace dshc::cpu {
namespace {

constexpr int kSliceWords = 4;
typedef uint64_t Slice __attribute__((vector_size(32)));

inline Slice sum3(Slice a, Slice b, Slice c) { return a ^ b ^ c; }
inline Slice majority(Slice a, Slice b, Slice c) { return (a & b) | (c & (a ^ b)); }
inline Slice and_not(Slice a, Slice b) { return a & ~b; }
inline bool any(Slice a) { return !_mm256_testz_si256(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(a)); }
inline uint64_t popcount(uint64_t word) { return static_cast<uint64_t>(__builtin_popcountll(word)); }

inline Slice lane_popcounts(Slice a) {
  return reinterpret_cast<Slice>(_mm256_sad_epu8(byte_popcount(reinterpret_cast<__m256i>(a)), _mm256_setzero_si256()));
}

// counts[i] += the sum of the words of sums[i], for eight of them.
inline void add_sums(const Slice* sums, uint64_t* counts) {
  for (int i = 0; i < 8; ++i) counts[i] += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
}

}  // namespace
}  // namespace dshc::cpu

#include "../plane_counts_loops.h"
#include "../plane_order_loops.h"

namespace dshc::cpu {

extern const PlaneKernels kAvx2Planes;
const PlaneKernels kAvx2Planes = {count, walk, sum_precisions};

}  // namespace dshc::cpu
