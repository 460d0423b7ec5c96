#include "plane_queries.h"

#include <algorithm>
#include <cstring>

namespace dshc::cpu {

PlaneQueries::PlaneQueries(const PlaneFilterKernels& kernels, const std::vector<uint64_t>& words, int64_t n)
    : kernels_(kernels), words_(words), code_words_(kernels.shape.bits == 128 ? 2 : 1) {
  const PlaneShape& shape = kernels.shape;
  const size_t size = static_cast<size_t>(n);
  list_.reserve(size);
  tables_.reset(new Line[static_cast<size_t>(8 * shape.n_tables)]);
  queries_.reset(new Line[size * static_cast<size_t>(shape.query_words / 8)]());
  masks_.reset(new Line[size + 1]);
  hits_.reset(new uint16_t[size + 1]);
  for (int64_t q = 0; q < n; ++q) {
    // The bits of the code, then the parities of bits 3 g, 3 g + 1 and 3 g + 2 of this queue, which end in time.
    uint64_t queue[4] = {};
    std::memcpy(queue, words.data() + q * code_words_, static_cast<size_t>(8 * code_words_));
    uint64_t* patterns = query(q);
    for (int32_t g = 0; g < shape.n_tables; ++g) {
      const int32_t low = 3 * g / 64, shift = 3 * g % 64;
      const uint64_t rest = shift > 61 ? queue[low + 1] << (64 - shift) : 0;
      const uint64_t bits = (queue[low] >> shift | rest) & 7;
      patterns[g / 16] |= bits << 3 * (g % 16);
      const int32_t to = shape.bits + g;
      queue[to / 64] |= (uint64_t{0x96} >> bits & 1) << to % 64;
    }
  }
}

void PlaneQueries::set_bound(int64_t q, int32_t bound) {
  const PlaneShape& shape = kernels_.shape;
  uint64_t* mine = query(q);
  const uint64_t constant = static_cast<uint64_t>(shape.bits - std::max(bound, 1));
  constexpr int kThirdBit = 3 * 15 + 2;  // of the last table, the sixteenth of its word
  uint64_t& last = mine[shape.pattern_words - 1];
  last = (last & ~(uint64_t{1} << kThirdBit)) | (constant & 1) << kThirdBit;
  for (int32_t w = 0; w < shape.start_words; ++w) mine[shape.pattern_words + w] = 0 - (constant >> (w + 1) & 1);
}

}  // namespace dshc::cpu
