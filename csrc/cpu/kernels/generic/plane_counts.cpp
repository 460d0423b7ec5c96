// Slices of two words, which the compilers make the most of on any processor.
#include <cstdint>

namespace dshc::cpu {
namespace {

constexpr int kSliceWords = 2;
typedef uint64_t Slice __attribute__((vector_size(16)));

inline Slice sum3(Slice a, Slice b, Slice c) { return a ^ b ^ c; }
inline Slice majority(Slice a, Slice b, Slice c) { return (a & b) | (c & (a ^ b)); }
inline Slice and_not(Slice a, Slice b) { return a & ~b; }
inline bool any(Slice a) { return (a[0] | a[1]) != 0; }

inline uint64_t popcount(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555ull;
  x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
  return (x * 0x0101010101010101ull) >> 56;
}
inline Slice lane_popcounts(Slice x) {
  x -= (x >> 1) & 0x5555555555555555ull;
  x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
  x += x >> 8;  // vectors have no 64-bit multiplication
  x += x >> 16;
  return (x + (x >> 32)) & 0x7F;
}

inline void add_sums(const Slice* sums, uint64_t* counts) {
  for (int i = 0; i < 8; ++i) counts[i] += sums[i][0] + sums[i][1];
}

}  // namespace
}  // namespace dshc::cpu

#include "../plane_counts_loops.h"
#include "../plane_order_loops.h"

namespace dshc::cpu {

extern const PlaneKernels kGenericPlanes;
const PlaneKernels kGenericPlanes = {count, walk, sum_precisions};

}  // namespace dshc::cpu
