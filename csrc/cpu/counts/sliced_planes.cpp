#include "sliced_planes.h"

#include <algorithm>
#include <cstring>

namespace dshc::cpu {
namespace {

// Bit b of word i becomes bit i of word b: blocks of 32, 16, ... bits change places (Hacker's Delight, 7-3).
void transpose_64(uint64_t* words) {
  uint64_t mask = 0x00000000FFFFFFFFull;
  for (int width = 32; width > 0; width /= 2, mask ^= mask << width) {
    for (int i = 0; i < 64; i = (i + width + 1) & ~width) {
      const uint64_t swapped = (words[i] >> width ^ words[i + width]) & mask;
      words[i + width] ^= swapped;
      words[i] ^= swapped << width;
    }
  }
}

}  // namespace

void slice_word(const uint8_t* codes, int64_t n, int32_t n_bytes, int64_t w, uint64_t* planes) {
  for (int32_t byte = 0; byte < n_bytes; byte += 8) {
    const int32_t length = std::min(8, n_bytes - byte);
    uint64_t words[64] = {};
    for (int64_t i = 0; i < n; ++i) std::memcpy(words + i, codes + i * n_bytes + byte, static_cast<size_t>(length));
    transpose_64(words);
    for (int32_t b = 0; b < 8 * length; ++b) planes[(8 * byte + b) * kPlaneWords + w] = words[b];
  }
}

void spread_bits(const uint8_t* code, int32_t n_bytes, uint64_t* bits) {
  for (int32_t b = 0; b < 8 * n_bytes; ++b) bits[b] = code[b / 8] >> (b % 8) & 1 ? ~uint64_t{0} : 0;
}

}  // namespace dshc::cpu
