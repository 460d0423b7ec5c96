// Rank values of eight codes as they lie, with AVX-512 and VPOPCNTDQ: the `Codes` of code_filter.h. Included by filter.cpp
// and kernels.cpp.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "../filter.h"
#include "../level.h"

namespace dshc::cpu {
namespace {

// What counts, in the bytes of `kept`.
template <Score score>
inline __m512i combined(__m512i a, __m512i b, __m512i kept) {
  return _mm512_ternarylogic_epi64(a, b, kept, score == Score::hamming ? 0x28 : 0x2A);
}

template <Score score>
inline __m512i combined(__m512i a, __m512i b) {
  return score == Score::hamming ? _mm512_xor_si512(a, b) : _mm512_ternarylogic_epi64(a, b, b, 0x3F);  // not (a and b)
}

// Sums of neighbouring words of a and of b in turn; of neighbouring pairs of words, first those of a.
inline __m512i add_words(__m512i a, __m512i b) {
  return _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
inline __m512i add_pairs(__m512i a, __m512i b) {
  return _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
}

// What both kinds of `Codes` have: a vector of eight values, none of them alone.
struct EightAtOnce {
  static constexpr int kItems = 8, kAlone = 0;

  static Key* write_keys(__m512i values, uint32_t mask, Key first, Key* to) {
    const __m512i places =
        _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first)), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    const __m512i keys = _mm512_add_epi64(_mm512_slli_epi64(values, kIndexBits), places);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(mask), keys));
    return to + __builtin_popcount(mask);
  }

  template <Score score>
  uint64_t alone(const uint8_t*) const {
    return 0;
  }
};

// Codes of up to kSlot bytes, 16 or 32, of which a vector takes several. kWhole: they fill their slots, and so lie as vectors.
template <int kSlot, bool kWhole>
class SlotCodes : public EightAtOnce {
 public:
  static constexpr int kBytes = kWhole ? kSlot : 0;
  static constexpr bool kReadsOn = !kWhole;

  SlotCodes(const uint8_t* query, int32_t n_bytes) : n_bytes_(n_bytes) {
    uint8_t in_turn[64] = {}, kept[64] = {};
    for (int slot = 0; slot < 64; slot += kSlot) {
      std::memcpy(in_turn + slot, query, static_cast<size_t>(n_bytes));
      std::memset(kept + slot, 0xFF, static_cast<size_t>(n_bytes));
    }
    query_ = _mm512_loadu_si512(in_turn);
    kept_ = _mm512_loadu_si512(kept);
  }

  template <Score score>
  __attribute__((always_inline)) __m512i values(const uint8_t* code) const {
    constexpr int kVectors = kSlot / 8;
    __m512i counts[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      counts[v] = _mm512_popcnt_epi64(kWhole ? combined<score>(_mm512_loadu_si512(code + 64 * v), query_)
                                             : combined<score>(gathered(code, v), query_, kept_));
    }
    if (kVectors == 2) return add_words(counts[0], counts[1]);
    return add_pairs(add_words(counts[0], counts[1]), add_words(counts[kVectors - 2], counts[kVectors - 1]));
  }

  static __m512i in_order(__m512i values) {
    if (!kWhole) return values;
    return _mm512_permutexvar_epi64(
        kSlot == 16 ? _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7) : _mm512_setr_epi64(0, 2, 1, 3, 4, 6, 5, 7), values);
  }

 private:
  // Vector v of slots, such that sums come in order.
  __m512i gathered(const uint8_t* code, int v) const {
    const int64_t stride = n_bytes_;
    if (kSlot == 32) {
      const uint8_t* from = code + (v / 2 * 4 + v % 2) * stride;
      const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 2 * stride));
      return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    }
    const auto slot = [&](int i) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(code + (2 * i + v) * stride));
    };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(slot(0)), slot(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(slot(2)), slot(3), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }

  int64_t n_bytes_;
  __m512i query_, kept_;
};

// Longer codes: a vector takes 64 bytes of one. kOfCode: bytes; 0: any number of whole words; kRagged: of bytes.
template <int kOfCode>
class LongCodes : public EightAtOnce {
 public:
  static constexpr int kBytes = kOfCode > 0 ? kOfCode : 0;
  static constexpr bool kReadsOn = false;

  LongCodes(const uint8_t* query, int32_t n_bytes)
      : query_(query),
        n_bytes_(kBytes ? kBytes : n_bytes),
        rest_bytes_((uint64_t{1} << n_bytes_ % 64) - 1),
        rest_words_(static_cast<__mmask8>((1u << (n_bytes_ % 64 + 7) / 8) - 1)) {}

  template <Score score>
  __attribute__((always_inline)) __m512i values(const uint8_t* code) const {
    __m512i counts[kItems];
#pragma GCC unroll 8
    for (int j = 0; j < kItems; ++j) counts[j] = counts_of<score>(code + j * n_bytes());
    return add_pairs(add_pairs(add_words(counts[0], counts[1]), add_words(counts[2], counts[3])),
                     add_pairs(add_words(counts[4], counts[5]), add_words(counts[6], counts[7])));
  }

  static __m512i in_order(__m512i values) { return values; }

 private:
  int64_t n_bytes() const { return kBytes ? kBytes : n_bytes_; }

  template <Score score>
  __attribute__((always_inline)) __m512i counts_of(const uint8_t* code) const {
    const int64_t whole = n_bytes() / 64 * 64;
    __m512i sum = _mm512_setzero_si512();
    for (int64_t at = 0; at < whole; at += 64) {
      const __m512i both = combined<score>(_mm512_loadu_si512(code + at), _mm512_loadu_si512(query_ + at));
      sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(both));
    }
    if (n_bytes() == whole) return sum;
    const auto rest = [&](const uint8_t* from) {
      return kOfCode == kRagged ? _mm512_maskz_loadu_epi8(rest_bytes_, from + whole)
                                : _mm512_maskz_loadu_epi64(rest_words_, from + whole);
    };
    // Of overlap, what is not there would count as not shared.
    __m512i both = combined<score>(rest(code), rest(query_));
    if (kOfCode == kRagged && score == Score::overlap) both = _mm512_maskz_mov_epi8(rest_bytes_, both);
    return _mm512_mask_add_epi64(sum, rest_words_, sum, _mm512_popcnt_epi64(both));
  }

  const uint8_t* query_;
  int64_t n_bytes_;
  __mmask64 rest_bytes_;
  __mmask8 rest_words_;
};

}  // namespace
}  // namespace dshc::cpu
