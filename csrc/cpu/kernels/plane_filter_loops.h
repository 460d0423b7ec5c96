// The filter by bit planes for one instruction set. (AVX-512 has loops of its own: full adders of two operations make pairs
// needless.) The including file defines, in an anonymous namespace:
//   Plane                   a vector of uint64_t, a bit an item: kPlaneLanes lanes of 16 bytes
//   load_lanes(from, apart) 16 bytes for each lane, `apart` bytes from one to the next
//   low_bytes, high_bytes   the bytes of the lower or upper halves of two vectors' lanes, taken in turn
//   is_full                 whether all bits are set
//   choose(where, a, b)     a where the bit is set, else b; kOneChoice: whether that is one instruction
// and includes this. Like floats.h it keeps to an anonymous namespace and off inline functions of the standard library.
//
// Carries go in pairs: of two planes of one weight the first, and where they differ. Two pairs and a third plane make a pair
// of twice the weight in 8 operations, where two full adders take 10 (E. Demenkov, A. Kojevnikov, A. Kulikov and
// G. Yaroslavtsev, "New upper bounds on the Boolean circuit complexity of symmetric functions", 2010). The tables hold pairs:
// five planes of weight 1 make two carries, the first of three planes, in eight forms; where they differ is a symmetric
// function of all five and the same for their complements, so that it has 16 forms, not 32.
#pragma once
#include "plane_keys.h"

namespace dshc::cpu {
namespace {

#define DSHC_INLINE inline __attribute__((always_inline))

constexpr int kPlaneBytes = 16 * kPlaneLanes, kBlockItems = 8 * kPlaneBytes;

DSHC_INLINE Plane load_plane(const uint8_t* from) {
  Plane plane;
  __builtin_memcpy(&plane, __builtin_assume_aligned(from, kPlaneBytes), sizeof plane);
  return plane;
}
DSHC_INLINE void store_plane(uint8_t* to, Plane plane) {
  __builtin_memcpy(__builtin_assume_aligned(to, kPlaneBytes), &plane, sizeof plane);
}
DSHC_INLINE Plane splat(uint64_t word) { return word - Plane{}; }

struct Pair {
  Plane first, differ;
};

// `sum` and two pairs: a pair of twice their weight, and what is left in `sum`.
DSHC_INLINE Pair add_pairs(Plane& sum, Pair a, Pair b) {
  const Plane both = sum ^ a.differ;  // the sum's bit after the first pair
  if (kOneChoice) {
    const Plane first = choose(a.differ, sum, a.first), second = choose(b.differ, both, b.first);
    sum = both ^ b.differ;
    return {first, first ^ second};
  }
  const Plane first_differs = a.differ | (sum ^ a.first);  // the first carry from `both`
  const Plane second_differs = (b.first ^ both) & ~b.differ;
  sum = both ^ b.differ;
  return {both ^ first_differs, first_differs ^ second_differs};
}

// Swaps the bits of `high` in `mask` for those of `low`, kShift places further up.
template <int kShift>
DSHC_INLINE void swap_bits(Plane& low, Plane& high, uint64_t mask) {
  const Plane differ = ((low >> kShift) ^ high) & splat(mask);
  high ^= differ;
  low ^= differ << kShift;
}

// The 8 * kWordBytes planes of a word column. Vectors of bytes from every eighth item, then in each byte position bits for
// items: so the bits of a plane come in the order of the items.
template <int kWordBytes>
void word_planes(const uint8_t* words, Plane* planes) {
  constexpr int kWords = 16 / kWordBytes;  // of a lane
  Plane bytes[kWordBytes][8];
  for (int g = 0; g < 8 / kWords; ++g) {
    Plane a[16], b[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) a[j] = load_lanes(words + (8 * j + g * kWords) * kWordBytes, 128 * kWordBytes);
    for (int stage = 0; stage < 4; ++stage) {  // each takes a bit of j into the vectors, a bit of their bytes out
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        b[2 * i] = low_bytes(a[i], a[i + 8]);
        b[2 * i + 1] = high_bytes(a[i], a[i + 8]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) a[i] = b[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) bytes[i % kWordBytes][g * kWords + i / kWordBytes] = a[i];
  }
  for (int k = 0; k < kWordBytes; ++k) {
    Plane x[8];
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) x[v] = bytes[k][v];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) swap_bits<4>(x[v], x[v + 4], 0x0F0F0F0F0F0F0F0F);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) swap_bits<2>(x[v / 2 * 4 + v % 2], x[v / 2 * 4 + v % 2 + 2], 0x3333333333333333);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) swap_bits<1>(x[2 * v], x[2 * v + 1], 0x5555555555555555);
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) planes[8 * k + v] = x[v];
  }
}

// The carry of three planes, those named by the bits of its number complemented.
DSHC_INLINE void all_carries(Plane x, Plane y, Plane z, Plane* carries) {
  const Plane xy = x ^ y, xz = x ^ z;
  carries[0] = x ^ (xy & xz);
  carries[1] = x ^ (xy | xz);
  carries[2] = x ^ (xz & ~xy);
  carries[4] = x ^ (xy & ~xz);
  carries[3] = ~carries[4];
  carries[5] = ~carries[2];
  carries[6] = ~carries[1];
  carries[7] = ~carries[0];
}

constexpr int kCarryForms = 8, kForms = kCarryForms + 16;  // of a group of five planes

constexpr int power_of_two(int least) {
  int power = 1;
  while (power < least) power *= 2;
  return power;
}

template <int kBits>
struct PlaneShape {
  static constexpr int kGroups = kBits / 4;  // of five planes each: the code's, the parities of other groups, a constant
  static constexpr int kTop = power_of_two(kBits);
  static_assert(kBits == kTop || 4 * kBits == 3 * kTop, "that many groups make no tree");
  static constexpr int kStarts = __builtin_ctz(kTop) - 1;  // weights 2 .. kTop / 2
  // A query: where in a group's forms its carry lies and where its difference, in bytes; the last of them once more, for an
  // even constant; then for each weight from 2 on all ones where the constant has the bit.
  static constexpr int kEven = 2 * kGroups, kStartsAt = 2 * kEven + 8;
  static constexpr int64_t kQueryBytes = (kStartsAt + 8 * kStarts + 63) / 64 * 64;
  static constexpr int64_t kTableBytes = int64_t{kGroups} * kForms * kPlaneBytes;
};

template <int kBits>
void tabulate(const PlaneBlock& block, uint8_t* tables) {
  constexpr int kGroups = PlaneShape<kBits>::kGroups;
  Plane queue[kBits + kGroups];
  if (kBits == 32) {
    word_planes<4>(block.words, queue);
  } else {
    for (int w = 0; w < kBits / 64; ++w) word_planes<8>(block.words + 8 * w * block.column_items, queue + 64 * w);
  }
  queue[kBits + kGroups - 1] = Plane{};  // the constant's bit
  for (int g = 0; g < kGroups; ++g) {
    const Plane* five = queue + 5 * g;
    uint8_t* to = tables + g * kForms * kPlaneBytes;
    const Plane sum = five[0] ^ five[1] ^ five[2];
    Plane first[8], second[8];
    all_carries(five[0], five[1], five[2], first);
    all_carries(sum, five[3], five[4], second);
#pragma GCC unroll 8
    for (int pattern = 0; pattern < 8; ++pattern) {
      const int odd = 0x96 >> pattern & 1;
      store_plane(to + pattern * kPlaneBytes, first[pattern]);
      store_plane(to + (kCarryForms + pattern) * kPlaneBytes, first[pattern] ^ second[odd]);
      store_plane(to + (kCarryForms + 8 + pattern) * kPlaneBytes, first[pattern] ^ second[odd + 2]);
    }
    if (g + 1 < kGroups) queue[kBits + g] = sum ^ five[3] ^ five[4];
  }
}

template <int kBits>
void set_code(const uint64_t* code, uint8_t* query) {
  using Shape = PlaneShape<kBits>;
  uint64_t queue[(kBits + Shape::kGroups) / 64 + 1] = {};
  uint16_t offsets[Shape::kEven + 1];
  __builtin_memcpy(queue, code, kBits / 8);
  for (int g = 0; g < Shape::kGroups; ++g) {
    const int word = 5 * g / 64, shift = 5 * g % 64;
    const uint64_t rest = shift > 59 ? queue[word + 1] << (64 - shift) : 0;
    const unsigned bits = static_cast<unsigned>((queue[word] >> shift | rest) & 31);
    const unsigned form = bits < 16 ? bits : 31 - bits;  // its complement, whose fifth bit is 0
    offsets[2 * g] = static_cast<uint16_t>((bits & 7) * kPlaneBytes);
    offsets[2 * g + 1] = static_cast<uint16_t>((kCarryForms + form) * kPlaneBytes);
    const int to = kBits + g;
    queue[to / 64] |= static_cast<uint64_t>(0x96696996u >> bits & 1) << to % 64;
  }
  offsets[Shape::kEven] = offsets[Shape::kEven - 1];
  __builtin_memcpy(query, offsets, sizeof offsets);
}

template <int kBits>
void set_bound(int32_t bound, uint8_t* query) {
  using Shape = PlaneShape<kBits>;
  const uint64_t constant = static_cast<uint64_t>(Shape::kTop - bound);
  auto* offsets = reinterpret_cast<uint16_t*>(query);
  const int even = offsets[Shape::kEven];
  // Its bit 0 is the fifth of the last group: the form of the complement.
  offsets[Shape::kEven - 1] = static_cast<uint16_t>(constant & 1 ? (2 * kCarryForms + 15) * kPlaneBytes - even : even);
  uint64_t starts[Shape::kStarts];
  for (int w = 0; w < Shape::kStarts; ++w) starts[w] = 0 - (constant >> (w + 1) & 1);
  __builtin_memcpy(query + Shape::kStartsAt, starts, sizeof starts);
}

template <int kBits>
struct PairSums {
  using Shape = PlaneShape<kBits>;
  const uint8_t *tables, *query;
  Plane sums[Shape::kStarts];
  int group = 0;

  DSHC_INLINE PairSums(const uint8_t* from, const uint8_t* of) : tables(from), query(of) {
    for (int w = 0; w < Shape::kStarts; ++w) {
      uint64_t start;
      __builtin_memcpy(&start, query + Shape::kStartsAt + 8 * w, 8);
      sums[w] = splat(start);
    }
  }
  // The next pair of weight 2^(kLevel + 1).
  template <int kLevel>
  DSHC_INLINE Pair take() {
    if constexpr (kLevel == 0) {
      const auto* offsets = reinterpret_cast<const uint16_t*>(query) + 2 * group;
      const uint8_t* forms = tables + group * kForms * kPlaneBytes;
      ++group;
      return {load_plane(forms + offsets[0]), load_plane(forms + offsets[1])};
    } else {
      const Pair a = take<kLevel - 1>();
      const Pair b = take<kLevel - 1>();
      return add_pairs(sums[kLevel - 1], a, b);
    }
  }
  static DSHC_INLINE Plane carry(Plane sum, Pair pair) { return choose(pair.differ, sum, pair.first); }
  DSHC_INLINE Plane outside() {
    if constexpr (kBits == Shape::kTop) {
      constexpr int kLast = Shape::kStarts - 1;
      const Pair pair = take<kLast>();
      return carry(sums[kLast], pair);
    } else {  // three pairs of an eighth of the top
      constexpr int kLast = Shape::kStarts - 3;
      const Pair a = take<kLast>();
      const Pair b = take<kLast>();
      const Pair quarters = add_pairs(sums[kLast], a, b);
      const Plane third = carry(sums[kLast], take<kLast>());
      const Plane half = carry(sums[kLast + 1], quarters), sum = sums[kLast + 1] ^ quarters.differ;
      return carry(sums[kLast + 2], {half, half ^ (sum & third)});
    }
  }
};

template <int kBits>
int64_t filter(const uint8_t* tables, const uint8_t* queries, const uint16_t* list, int64_t n, uint16_t* hits,
               uint64_t* masks) {
  int64_t n_hits = 0;
  for (int64_t i = 0; i < n; ++i) {  // without a branch: a mispredicted one costs half as much as the sums
    const Plane outside = PairSums<kBits>(tables, queries + list[i] * PlaneShape<kBits>::kQueryBytes).outside();
    hits[n_hits] = list[i];
    store_plane(reinterpret_cast<uint8_t*>(masks) + n_hits * kPlaneBytes, ~outside);
    n_hits += !is_full(outside);
  }
  return n_hits;
}

template <int kBits>
Key* keys(const PlaneBlock& block, const uint64_t* mask, const uint8_t* allowed, const uint64_t* code, Key* found) {
  for (int at = 0; at < kBlockItems; at += 64) {
    uint64_t bits = mask[at / 64], may = ~uint64_t{0};
    if (allowed) __builtin_memcpy(&may, allowed + at / 8, 8);
    found = append_keys<kBits>(block, at, bits & may, code, found);
  }
  return found;
}

template <int kBits>
constexpr PlaneFilterKernels plane_filter_kernels() {
  using Shape = PlaneShape<kBits>;
  return {kBits,           kBlockItems,      Shape::kTableBytes, Shape::kQueryBytes, set_code<kBits>,
          set_bound<kBits>, tabulate<kBits>, filter<kBits>,      keys<kBits>};
}

constexpr PlaneFilters plane_filters() {
  return {plane_filter_kernels<32>(),  plane_filter_kernels<64>(),  plane_filter_kernels<128>(),
          plane_filter_kernels<192>(), plane_filter_kernels<256>(), plane_filter_kernels<384>(),
          plane_filter_kernels<512>(), plane_filter_kernels<768>(), plane_filter_kernels<1024>()};
}

}  // namespace
}  // namespace dshc::cpu
