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
// In a loop over bytes it is 90 times slower (GCC 12). GCC before 12 has no shufflevector, Clang no shuffle.
inline Plane low_bytes(Plane a, Plane b) {
  const PlaneBytes x = reinterpret_cast<PlaneBytes>(a), y = reinterpret_cast<PlaneBytes>(b);
#if defined(__clang__) || __GNUC__ >= 12
  return reinterpret_cast<Plane>(__builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
#else
  return reinterpret_cast<Plane>(
      __builtin_shuffle(x, y, PlaneBytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}));
#endif
}
inline Plane high_bytes(Plane a, Plane b) {
  const auto high = [](Plane plane) { return plane[1] + Plane{}; };
  return low_bytes(high(a), high(b));
}
constexpr bool kOneChoice = false;
inline Plane choose(Plane where, Plane a, Plane b) { return b ^ (where & (a ^ b)); }
inline bool is_full(Plane a) { return (a[0] & a[1]) == ~uint64_t{0}; }

}  // namespace
}  // namespace dshc::cpu

#include "../plane_filter_loops.h"

namespace dshc::cpu {

extern const PlaneFilters kGenericPlaneFilters;
const PlaneFilters kGenericPlaneFilters = plane_filters();

}  // namespace dshc::cpu
