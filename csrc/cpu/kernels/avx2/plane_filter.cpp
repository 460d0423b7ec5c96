// The filter by bit planes with AVX2: 256 items a plane.
#include <immintrin.h>

#include <cstdint>

namespace dshc::cpu {
namespace {

constexpr int kPlaneLanes = 2;
typedef uint64_t Plane __attribute__((vector_size(32)));

inline Plane load_lanes(const uint8_t* from, int64_t apart) {
  const auto lane = [](const uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); };
  return reinterpret_cast<Plane>(_mm256_inserti128_si256(_mm256_castsi128_si256(lane(from)), lane(from + apart), 1));
}
inline Plane low_bytes(Plane a, Plane b) {
  return reinterpret_cast<Plane>(_mm256_unpacklo_epi8(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
inline Plane high_bytes(Plane a, Plane b) {
  return reinterpret_cast<Plane>(_mm256_unpackhi_epi8(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
constexpr bool kOneChoice = false;
inline Plane choose(Plane where, Plane a, Plane b) { return b ^ (where & (a ^ b)); }
inline bool is_full(Plane a) { return _mm256_testc_si256(reinterpret_cast<__m256i>(a), _mm256_set1_epi8(-1)); }

}  // namespace
}  // namespace dshc::cpu

#include "../plane_filter_loops.h"

namespace dshc::cpu {

extern const PlaneFilters kAvx2PlaneFilters;
const PlaneFilters kAvx2PlaneFilters = plane_filters();

}  // namespace dshc::cpu
