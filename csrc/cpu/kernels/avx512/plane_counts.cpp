// Slices of 512 bits: any function of three bits is one instruction, and so are eight popcounts.
#include <immintrin.h>

#include <cstdint>

namespace dshc::cpu {
namespace {

constexpr int kSliceWords = 8;
typedef uint64_t Slice __attribute__((vector_size(64)));

inline __m512i raw(Slice a) { return reinterpret_cast<__m512i>(a); }
inline Slice slice(__m512i a) { return reinterpret_cast<Slice>(a); }

inline Slice sum3(Slice a, Slice b, Slice c) { return slice(_mm512_ternarylogic_epi64(raw(a), raw(b), raw(c), 0x96)); }
inline Slice majority(Slice a, Slice b, Slice c) {
  return slice(_mm512_ternarylogic_epi64(raw(a), raw(b), raw(c), 0xE8));
}
inline Slice and_not(Slice a, Slice b) { return slice(_mm512_andnot_si512(raw(b), raw(a))); }
inline bool any(Slice a) { return _mm512_test_epi64_mask(raw(a), raw(a)) != 0; }
inline uint64_t popcount(uint64_t word) { return static_cast<uint64_t>(__builtin_popcountll(word)); }
inline Slice lane_popcounts(Slice a) { return slice(_mm512_popcnt_epi64(raw(a))); }

inline __m512i add_neighbours(__m512i a, __m512i b) {
  return _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// counts[i] += the sum of the words of sums[i], for eight of them.
inline void add_sums(const Slice* sums, uint64_t* counts) {
  __m512i pairs[4], fours[2];
  for (int i = 0; i < 4; ++i) pairs[i] = add_neighbours(raw(sums[2 * i]), raw(sums[2 * i + 1]));
  for (int i = 0; i < 2; ++i) {  // each 128-bit lane of a pair holds parts of the same two sums
    const __m512i a = pairs[2 * i], b = pairs[2 * i + 1];
    fours[i] = _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
  }
  const __m512i all = _mm512_add_epi64(_mm512_shuffle_i64x2(fours[0], fours[1], 0x88),
                                       _mm512_shuffle_i64x2(fours[0], fours[1], 0xDD));
  _mm512_storeu_si512(counts, _mm512_add_epi64(_mm512_loadu_si512(counts), all));
}

}  // namespace
}  // namespace dshc::cpu

#include "../plane_counts_loops.h"
#include "../plane_order_loops.h"

namespace dshc::cpu {

extern const PlaneKernels kAvx512Planes;
const PlaneKernels kAvx512Planes = {count, walk, sum_precisions};

}  // namespace dshc::cpu
