// The filter in plain C++ for any processor, one item at a time.
#include "../code_filter.h"
#include "../listed_codes.h"

namespace dshc::cpu {
namespace {

template <class AWord>
struct Items {
  using Word = AWord;
  using Vector = uint64_t;
  static constexpr int kItems = 1, kQueries = 1;

  static uint64_t popcount(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555ull;
    x = (x & 0x3333333333333333ull) + ((x >> 2) & 0x3333333333333333ull);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Full;
    return (x * 0x0101010101010101ull) >> 56;
  }
  static Vector load(const uint8_t* from) { return word_at<Word>(from, 0); }
  static void keep(Vector& code) { __asm__("" : "+r"(code)); }
  static Vector splat(Word word) { return word; }
  template <Score score>
  static Vector counts(Vector a, Vector b) {
    return popcount(filter_combine<score>(static_cast<Word>(a), static_cast<Word>(b)));
  }
  static Vector add(Vector a, Vector b) { return a + b; }
  static Vector min(Vector a, Vector b) { return a < b ? a : b; }
  static uint32_t below(Vector counts, Vector bound) { return counts < bound; }
};

}  // namespace

extern const CodeKernels kGenericCodes;
const CodeKernels kGenericCodes = {to_columns_by_word, near_codes_by_word<Items<uint64_t>>};

extern const PlaneFilters kGenericPlaneFilters;  // plane_filter.cpp

constexpr int32_t kWorthPlanes = 8;  // queries

extern const FilterRow kGenericFilters[];
const FilterRow kGenericFilters[] = {
    ragged_row<Items<uint64_t>>(),
    codes_row<Items<uint64_t>, 2>(kMostForCodes),
    codes_row<Items<uint64_t>, 3>(kMostForCodes),
    codes_row<Items<uint64_t>, 4>(kMostForCodes),
    codes_row<Items<uint64_t>, 8>(kMostForCodes),
    codes_row<Items<uint64_t>, 16>(kMostForCodes),
    plane_row(4, kWorthPlanes, &kGenericPlaneFilters.of_32),
    plane_row(8, kWorthPlanes, &kGenericPlaneFilters.of_64),
    plane_row(16, kWorthPlanes, &kGenericPlaneFilters.of_128),
    plane_row(24, kWorthPlanes, &kGenericPlaneFilters.of_192),
    plane_row(32, kWorthPlanes, &kGenericPlaneFilters.of_256),
    plane_row(48, kWorthPlanes, &kGenericPlaneFilters.of_384),
    plane_row(64, kWorthPlanes, &kGenericPlaneFilters.of_512),
    plane_row(96, kWorthPlanes, &kGenericPlaneFilters.of_768),
    plane_row(128, kWorthPlanes, &kGenericPlaneFilters.of_1024),
    popcount_row<Items<uint32_t>, 1>(),
    popcount_row<Items<uint64_t>, 1>(),
    popcount_row<Items<uint64_t>, 2>(),
    popcount_row<Items<uint64_t>, 3>(),
    popcount_row<Items<uint64_t>, 4>(),
    codes_row<Items<uint64_t>, 0>(kMostForCodes),
    popcount_row<Items<uint64_t>, 0>(),
};

}  // namespace dshc::cpu
