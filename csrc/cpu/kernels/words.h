// Words of codes, and what of two of them is counted. Included as floats.h is.
#pragma once
#include <cstdint>
#include <cstring>

#include "../../core/types.h"

namespace dshc::cpu {
namespace {

// For overlap the bits that are *not* shared are counted: like a distance, this ascends from best to worst.
template <Score score, class Word>
inline Word filter_combine(Word a, Word b) {
  return static_cast<Word>(score == Score::hamming ? a ^ b : ~(a & b));
}

template <class Word>
inline Word word_at(const uint8_t* words, int64_t i) {
  Word word;
  std::memcpy(&word, words + i * static_cast<int64_t>(sizeof(Word)), sizeof(Word));
  return word;
}

// Keeps a word in a general register: a compiler that puts two of them into a vector to count their bits loses more than that
// to get them out again.
inline uint64_t alone(uint64_t word) {
  __asm__("" : "+r"(word));
  return word;
}

}  // namespace
}  // namespace dshc::cpu
