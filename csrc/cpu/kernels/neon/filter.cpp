// The filter with NEON: byte popcounts (CNT), summed pairwise to words.
#include <arm_neon.h>

#include "../code_filter.h"
#include "../listed_codes.h"

namespace dshc::cpu {
namespace {

template <Score score>
inline uint8x16_t combined_byte_popcount(uint8x16_t a, uint8x16_t b) {
  return vcntq_u8(score == Score::hamming ? veorq_u8(a, b) : vmvnq_u8(vandq_u8(a, b)));
}

struct Lanes64 {
  using Word = uint64_t;
  using Vector = uint64x2_t;
  static constexpr int kItems = 2, kQueries = 4;

  static uint64_t popcount(Word x) { return static_cast<uint64_t>(__builtin_popcountll(x)); }
  static Vector load(const uint8_t* from) { return vreinterpretq_u64_u8(vld1q_u8(from)); }
  static void keep(Vector& code) { __asm__("" : "+w"(code)); }
  static Vector splat(Word word) { return vdupq_n_u64(word); }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    const uint8x16_t bytes = combined_byte_popcount<score>(vreinterpretq_u8_u64(a), vreinterpretq_u8_u64(b));
    return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes)));
  }
  static Vector add(Vector a, Vector b) { return vaddq_u64(a, b); }
  static Vector min(Vector a, Vector b) {
    return vreinterpretq_u64_u16(vminq_u16(vreinterpretq_u16_u64(a), vreinterpretq_u16_u64(b)));
  }
  static uint32_t below(Vector counts, Vector bound) {
    const uint64x2_t mask = vcltq_u64(counts, bound);
    return static_cast<uint32_t>((vgetq_lane_u64(mask, 0) & 1) | (vgetq_lane_u64(mask, 1) & 2));
  }
};

struct Lanes32 {
  using Word = uint32_t;
  using Vector = uint32x4_t;
  static constexpr int kItems = 4, kQueries = 4;

  static uint64_t popcount(Word x) { return static_cast<uint64_t>(__builtin_popcount(x)); }
  static Vector load(const uint8_t* from) { return vreinterpretq_u32_u8(vld1q_u8(from)); }
  static void keep(Vector& code) { __asm__("" : "+w"(code)); }
  static Vector splat(Word word) { return vdupq_n_u32(word); }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    return vpaddlq_u16(vpaddlq_u8(combined_byte_popcount<score>(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b))));
  }
  static Vector add(Vector a, Vector b) { return vaddq_u32(a, b); }
  static Vector min(Vector a, Vector b) { return vminq_u32(a, b); }
  static uint32_t below(Vector counts, Vector bound) {
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_u32(counts, bound), bits));
  }
};

}  // namespace

extern const CodeKernels kNeonCodes;
const CodeKernels kNeonCodes = {to_columns_by_word, near_codes_by_word<Lanes64>};

extern const PlaneFilters kNeonPlaneFilters;  // plane_filter.cpp

constexpr int32_t kWorthPlanes = 32;  // queries; counted in instructions, not measured

extern const FilterRow kNeonFilters[];
const FilterRow kNeonFilters[] = {
    ragged_row<Lanes64>(),
    codes_row<Lanes64, 2>(kMostForCodes),
    codes_row<Lanes64, 3>(kMostForCodes),
    codes_row<Lanes64, 4>(kMostForCodes),
    codes_row<Lanes64, 8>(kMostForCodes),
    codes_row<Lanes64, 16>(kMostForCodes),
    plane_row(4, kWorthPlanes, &kNeonPlaneFilters.of_32),
    plane_row(8, kWorthPlanes, &kNeonPlaneFilters.of_64),
    plane_row(16, kWorthPlanes, &kNeonPlaneFilters.of_128),
    plane_row(24, kWorthPlanes, &kNeonPlaneFilters.of_192),
    plane_row(32, kWorthPlanes, &kNeonPlaneFilters.of_256),
    plane_row(48, kWorthPlanes, &kNeonPlaneFilters.of_384),
    plane_row(64, kWorthPlanes, &kNeonPlaneFilters.of_512),
    plane_row(96, kWorthPlanes, &kNeonPlaneFilters.of_768),
    plane_row(128, kWorthPlanes, &kNeonPlaneFilters.of_1024),
    popcount_row<Lanes32, 1>(),
    popcount_row<Lanes64, 1>(),
    popcount_row<Lanes64, 2>(),
    popcount_row<Lanes64, 3>(),
    popcount_row<Lanes64, 4>(),
    codes_row<Lanes64, 0>(kMostForCodes),
    popcount_row<Lanes64, 0>(),
};

}  // namespace dshc::cpu
