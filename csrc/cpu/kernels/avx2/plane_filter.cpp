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

extern const PlaneFilterKernels kAvx2PlaneFilter32, kAvx2PlaneFilter64, kAvx2PlaneFilter128, kAvx2PlaneFilter192,
    kAvx2PlaneFilter256;
const PlaneFilterKernels kAvx2PlaneFilter32 = plane_filter_kernels<32>();
const PlaneFilterKernels kAvx2PlaneFilter64 = plane_filter_kernels<64>();
const PlaneFilterKernels kAvx2PlaneFilter128 = plane_filter_kernels<128>();
const PlaneFilterKernels kAvx2PlaneFilter192 = plane_filter_kernels<192>();
const PlaneFilterKernels kAvx2PlaneFilter256 = plane_filter_kernels<256>();

}  // namespace dshc::cpu
