// The bits of a part of a code, and which items stand for their equal ones.
#pragma once
#include <cstdint>
#include <cstring>

#include "../../core/types.h"

namespace dshc::cpu {

// Bits [first, first + bits) of a code of whole words; 1 to 32 of them.
inline uint32_t substring(const uint8_t* code, int32_t row_bytes, int32_t first, int32_t bits) {
  uint64_t word = 0;
  if (row_bytes == 4) {
    std::memcpy(&word, code, 4);
    word >>= first;
  } else {
    const int32_t shift = first % 64;
    std::memcpy(&word, code + first / 64 * 8, 8);
    word >>= shift;
    if (shift + bits > 64) {
      uint64_t next = 0;
      std::memcpy(&next, code + first / 64 * 8 + 8, 8);
      word |= next << (64 - shift);
    }
  }
  return static_cast<uint32_t>(word & ((uint64_t{1} << bits) - 1));
}

// The parts of a partition by their first members, which ascend.
inline int64_t first_member(const Partition& parts, int64_t part) { return parts.members[parts.offsets[part]]; }

// The part whose first member this is; n_parts if there is none.
inline int64_t part_of_first(const Partition& parts, int64_t item) {
  int64_t begin = 0, n = parts.n_parts;
  while (n > 0) {
    const int64_t half = n / 2;
    if (first_member(parts, begin + half) < item) {
      begin += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return begin < parts.n_parts && first_member(parts, begin) == item ? begin : parts.n_parts;
}

}  // namespace dshc::cpu
