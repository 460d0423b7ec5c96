#include "scan.h"

#include <algorithm>

namespace dshc::cpu {

int64_t block_items(int32_t stride) {
  constexpr int64_t kBlockBytes = 16 << 10;
  return std::clamp<int64_t>(kBlockBytes / stride / 64 * 64, 64, 2048);
}

void mark_not_allowed(const uint8_t* allowed, int64_t first, int64_t n, uint16_t mark, uint16_t* row) {
  const uint8_t* bytes = allowed + first / 8;  // `first` is a multiple of 64
  for (int64_t i = 0; i < n; i += 8) {
    const uint32_t bits = bytes[i / 8];
    if (bits == 0xFF) continue;
    const int64_t end = std::min<int64_t>(8, n - i);
    for (int64_t j = 0; j < end; ++j) {
      if (!(bits >> j & 1)) row[i + j] = mark;
    }
  }
}

}  // namespace dshc::cpu
