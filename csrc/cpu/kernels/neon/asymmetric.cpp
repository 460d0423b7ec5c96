// Weighted distances with NEON: TBL looks up a table of 16 bytes.
#include <arm_neon.h>

#include "../asymmetric.h"

namespace dshc::cpu {
namespace {

struct Lanes {
  using Vector = uint8x16_t;
  struct Wide {
    uint16x8_t low, high;  // 16-bit sums of the lower eight bytes, and of the upper ones
  };
  static constexpr int kItems = 16, kTiles = 2;

  static Vector zero() { return vdupq_n_u8(0); }
  static Vector table(const uint8_t* from) { return vld1q_u8(from); }
  static Vector look_up(Vector table, const uint8_t* nibbles) { return vqtbl1q_u8(table, vld1q_u8(nibbles)); }
  static Vector add(Vector a, Vector b) { return vqaddq_u8(a, b); }
  static uint64_t mask_of(Vector bytes) {
    const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t own = vandq_u8(bytes, bits);
    return static_cast<uint64_t>(vaddv_u8(vget_low_u8(own))) | static_cast<uint64_t>(vaddv_u8(vget_high_u8(own))) << 8;
  }
  static uint64_t at_most(Vector sums, uint32_t limit) {
    return mask_of(vcleq_u8(sums, vdupq_n_u8(static_cast<uint8_t>(limit))));
  }
  static void add_wide(Wide* wide, Vector sums) {
    wide->low = vaddw_u8(wide->low, vget_low_u8(sums));
    wide->high = vaddw_u8(wide->high, vget_high_u8(sums));
  }
  static uint64_t at_most_wide(const Wide& wide, uint32_t limit) {
    const uint16x8_t most = vdupq_n_u16(static_cast<uint16_t>(limit));
    return mask_of(vcombine_u8(vmovn_u16(vcleq_u16(wide.low, most)), vmovn_u16(vcleq_u16(wide.high, most))));
  }
};

}  // namespace

extern const AsymmetricKernels kNeonAsymmetric;
const AsymmetricKernels kNeonAsymmetric = {arrange, distances_plain, select_of<Lanes>};

}  // namespace dshc::cpu
