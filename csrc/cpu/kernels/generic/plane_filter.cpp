// The filter by bit planes in vectors of two words, which the compilers make the most of on any processor.
#include <cstdint>

namespace dshc::cpu {
namespace {

constexpr int kPlaneLanes = 1;
typedef uint64_t Plane __attribute__((vector_size(16)));
typedef uint8_t PlaneBytes __attribute__((vector_size(16)));

inline Plane load_lanes(const uint8_t* from, int64_t) {
  Plane plane;
  __builtin_memcpy(&plane, from, sizeof plane);
  return plane;
}
template <int kFirst>
inline Plane taken_in_turn(Plane a, Plane b) {
  const PlaneBytes x = reinterpret_cast<PlaneBytes>(a), y = reinterpret_cast<PlaneBytes>(b);
  PlaneBytes bytes{};
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    bytes[2 * i] = x[kFirst + i];
    bytes[2 * i + 1] = y[kFirst + i];
  }
  return reinterpret_cast<Plane>(bytes);
}
inline Plane low_bytes(Plane a, Plane b) { return taken_in_turn<0>(a, b); }
inline Plane high_bytes(Plane a, Plane b) { return taken_in_turn<8>(a, b); }
constexpr bool kOneChoice = false;
inline Plane choose(Plane where, Plane a, Plane b) { return b ^ (where & (a ^ b)); }
inline bool is_full(Plane a) { return (a[0] & a[1]) == ~uint64_t{0}; }

}  // namespace
}  // namespace dshc::cpu

#include "../plane_filter_loops.h"

namespace dshc::cpu {

extern const PlaneFilterKernels kGenericPlaneFilter32, kGenericPlaneFilter64, kGenericPlaneFilter128,
    kGenericPlaneFilter192, kGenericPlaneFilter256;
const PlaneFilterKernels kGenericPlaneFilter32 = plane_filter_kernels<32>();
const PlaneFilterKernels kGenericPlaneFilter64 = plane_filter_kernels<64>();
const PlaneFilterKernels kGenericPlaneFilter128 = plane_filter_kernels<128>();
const PlaneFilterKernels kGenericPlaneFilter192 = plane_filter_kernels<192>();
const PlaneFilterKernels kGenericPlaneFilter256 = plane_filter_kernels<256>();

}  // namespace dshc::cpu
