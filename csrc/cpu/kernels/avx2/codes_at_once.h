// Rank values of six codes as they lie, with AVX2: the `Codes` of code_filter.h. Four in vectors, by table look-ups, and two in
// general registers, by popcnt, because these have units of their own: measured, 1.4 times the pace of either alone. Included by
// filter.cpp and kernels.cpp.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "../filter.h"
#include "../words.h"
#include "byte_popcount.h"

namespace dshc::cpu {
namespace {

inline __m256i vector_at(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

template <Score score>
inline __m256i combined(__m256i a, __m256i b) {
  return score == Score::hamming ? _mm256_xor_si256(a, b) : _mm256_xor_si256(_mm256_and_si256(a, b), _mm256_set1_epi8(-1));
}

inline __m256i word_sums(__m256i byte_counts) { return _mm256_sad_epu8(byte_counts, _mm256_setzero_si256()); }

// Sums of neighbouring words of a and of b in turn.
inline __m256i add_words(__m256i a, __m256i b) {
  return _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

// Sums of the words of four vectors, in their order.
inline __m256i sum_each(const __m256i* v) {
  const __m256i first = add_words(v[0], v[1]), second = add_words(v[2], v[3]);
  return _mm256_add_epi64(_mm256_permute2x128_si256(first, second, 0x20), _mm256_permute2x128_si256(first, second, 0x31));
}

inline Key* write_four_keys(__m256i values, uint32_t mask, Key first, Key* to) {
  alignas(32) uint64_t all[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(all), values);
  for (; mask; mask &= mask - 1) {
    const int j = __builtin_ctz(mask);
    *to++ = make_key(all[j], 0) + first + static_cast<uint64_t>(j);
  }
  return to;
}

// What one code counts, of n_words whole words and, with kEnds, of some bytes more.
template <Score score, bool kEnds>
inline uint64_t counted_alone(const uint8_t* code, const uint8_t* query, int32_t n_words, int64_t n_bytes) {
  uint64_t value = 0;
#pragma GCC unroll 16
  for (int32_t w = 0; w < n_words; ++w) {
    value += static_cast<uint64_t>(
        __builtin_popcountll(alone(filter_combine<score>(word_at<uint64_t>(code, w), word_at<uint64_t>(query, w)))));
  }
  if (!kEnds) return value;
  uint64_t a, b;
  std::memcpy(&a, code + n_bytes - 8, 8);
  std::memcpy(&b, query + n_bytes - 8, 8);
  return value + static_cast<uint64_t>(__builtin_popcountll(alone(filter_combine<score>(a, b) >> (64 - n_bytes % 8 * 8))));
}

// Codes of up to kWords words, 2 to 4. kEnds: they end inside the last one.
template <int kWords, bool kEnds>
class SlotCodes {
 public:
  static constexpr int kItems = 4, kAlone = 2, kBytes = kEnds ? 0 : 8 * kWords;
  static constexpr bool kWhole = !kEnds && kWords != 3;  // codes fill their slots, and so lie as vectors
  static constexpr bool kReadsOn = !kWhole;

  SlotCodes(const uint8_t* query, int32_t n_bytes) : n_bytes_(n_bytes) {
    uint8_t in_turn[32] = {}, kept[32] = {};
    for (int slot = 0; slot < 32; slot += kSlot) {
      std::memcpy(in_turn + slot, query, static_cast<size_t>(n_bytes));
      std::memset(kept + slot, 0xFF, static_cast<size_t>(n_bytes));
    }
    query_ = vector_at(in_turn);
    kept_ = vector_at(kept);
    std::memcpy(words_, query, 8 * kWords);
  }

  template <Score score>
  __attribute__((always_inline)) __m256i values(const uint8_t* code) const {
    if (kSlot == 16) return add_words(counts<score>(code, 0), counts<score>(code, 1));
    const __m256i all[4] = {counts<score>(code, 0), counts<score>(code, 1), counts<score>(code, 2), counts<score>(code, 3)};
    return sum_each(all);
  }

  static __m256i in_order(__m256i values) {
    return kWhole && kSlot == 16 ? _mm256_permute4x64_epi64(values, 0xD8) : values;
  }

  static Key* write_keys(__m256i values, uint32_t mask, Key first, Key* to) { return write_four_keys(values, mask, first, to); }

  template <Score score>
  uint64_t alone(const uint8_t* code) const {
    return counted_alone<score, kEnds>(code, reinterpret_cast<const uint8_t*>(words_), kEnds ? kWords - 1 : kWords, n_bytes_);
  }

 private:
  static constexpr int kSlot = kWords <= 2 ? 16 : 32;

  template <Score score>
  __attribute__((always_inline)) __m256i counts(const uint8_t* code, int v) const {
    __m256i at;
    if (kWhole) {
      at = vector_at(code + 32 * v);
    } else if (kSlot == 32) {
      at = vector_at(code + v * n_bytes_);
    } else {  // such that sums come in order
      const auto slot = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(code + i * n_bytes_)); };
      at = _mm256_inserti128_si256(_mm256_castsi128_si256(slot(v)), slot(v + 2), 1);
    }
    const __m256i both = combined<score>(at, query_);
    return word_sums(byte_popcount(kWhole ? both : _mm256_and_si256(both, kept_)));
  }

  int64_t n_bytes_;
  __m256i query_, kept_;
  uint64_t words_[kWords];
};

// Longer codes of whole words: a vector takes four of one. kWords 0: any number.
template <int kWords>
class LongCodes {
 public:
  static constexpr int kItems = 4, kAlone = 2, kBytes = 8 * kWords;
  static constexpr bool kReadsOn = false;

  LongCodes(const uint8_t* query, int32_t n_bytes) : query_(query), n_words_(kWords ? kWords : n_bytes / 8) {
    int64_t rest[4] = {};
    for (int w = 0; w < n_words_ % 4; ++w) rest[w] = -1;
    rest_ = vector_at(reinterpret_cast<const uint8_t*>(rest));
  }

  template <Score score>
  __attribute__((always_inline)) __m256i values(const uint8_t* code) const {
    const int64_t stride = 8 * n_words();
    const __m256i all[4] = {counts<score>(code), counts<score>(code + stride), counts<score>(code + 2 * stride),
                            counts<score>(code + 3 * stride)};
    return sum_each(all);
  }

  static __m256i in_order(__m256i values) { return values; }

  static Key* write_keys(__m256i values, uint32_t mask, Key first, Key* to) { return write_four_keys(values, mask, first, to); }

  template <Score score>
  uint64_t alone(const uint8_t* code) const {
    return counted_alone<score, false>(code, query_, n_words(), 8 * n_words());
  }

 private:
  int32_t n_words() const { return kWords ? kWords : n_words_; }

  template <Score score>
  __attribute__((always_inline)) __m256i counts(const uint8_t* code) const {
    const int32_t whole = n_words() / 4 * 32;
    __m256i sum = _mm256_setzero_si256();
    // A byte counts up to 8 in each: added up before they are summed to words where that fits.
    constexpr bool kFits = kWords > 0 && kWords / 4 * 8 < 256;
    for (int32_t at = 0; at < whole; at += 32) {
      const __m256i bytes = byte_popcount(combined<score>(vector_at(code + at), vector_at(query_ + at)));
      sum = kFits ? _mm256_add_epi8(sum, bytes) : _mm256_add_epi64(sum, word_sums(bytes));
    }
    if (kFits) sum = word_sums(sum);
    if (n_words() % 4 == 0) return sum;
    const auto masked = [&](const uint8_t* from) {
      return _mm256_maskload_epi64(reinterpret_cast<const long long*>(from + whole), rest_);
    };
    // Of overlap, words that are not there count as not shared.
    const __m256i both = _mm256_and_si256(combined<score>(masked(code), masked(query_)), rest_);
    return _mm256_add_epi64(sum, word_sums(byte_popcount(both)));
  }

  const uint8_t* query_;
  int32_t n_words_;
  __m256i rest_;
};

}  // namespace
}  // namespace dshc::cpu
