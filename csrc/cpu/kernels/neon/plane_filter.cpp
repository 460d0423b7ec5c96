// The filter by bit planes with NEON: 128 items a plane; BSL chooses between two bits.
#include <arm_neon.h>

#include <cstdint>

namespace dshc::cpu {
namespace {

constexpr int kPlaneLanes = 1;
typedef uint64_t Plane __attribute__((vector_size(16)));

inline Plane load_lanes(const uint8_t* from, int64_t) { return reinterpret_cast<Plane>(vld1q_u8(from)); }
inline Plane low_bytes(Plane a, Plane b) {
  return reinterpret_cast<Plane>(vzip1q_u8(reinterpret_cast<uint8x16_t>(a), reinterpret_cast<uint8x16_t>(b)));
}
inline Plane high_bytes(Plane a, Plane b) {
  return reinterpret_cast<Plane>(vzip2q_u8(reinterpret_cast<uint8x16_t>(a), reinterpret_cast<uint8x16_t>(b)));
}
constexpr bool kOneChoice = true;
inline Plane choose(Plane where, Plane a, Plane b) {
  return reinterpret_cast<Plane>(vbslq_u64(reinterpret_cast<uint64x2_t>(where), reinterpret_cast<uint64x2_t>(a),
                                           reinterpret_cast<uint64x2_t>(b)));
}
inline bool is_full(Plane a) { return (a[0] & a[1]) == ~uint64_t{0}; }

}  // namespace
}  // namespace dshc::cpu

#include "../plane_filter_loops.h"

namespace dshc::cpu {

extern const PlaneFilters kNeonPlaneFilters;
const PlaneFilters kNeonPlaneFilters = plane_filters();

}  // namespace dshc::cpu
