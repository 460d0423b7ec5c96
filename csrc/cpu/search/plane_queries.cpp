#include "plane_queries.h"

#include <algorithm>

#include "../call/blocks.h"

namespace dshc::cpu {

PlaneQueries::PlaneQueries(const PlaneFilterKernels& kernels, const std::vector<uint64_t>& words, int64_t n)
    : kernels_(kernels), words_(words), code_words_(divide_up(kernels.bits, 64)) {
  const size_t size = static_cast<size_t>(n);
  list_.reserve(size);
  tables_.reset(new Line[static_cast<size_t>(kernels.table_bytes / 64)]);
  queries_.reset(new Line[static_cast<size_t>(n * kernels.query_bytes / 64)]());
  masks_.reset(new Line[static_cast<size_t>(divide_up((n + 1) * kernels.items / 8, 64))]);
  hits_.reset(new uint16_t[size + 1]);
  for (int64_t q = 0; q < n; ++q) kernels.set_code(words.data() + q * code_words_, query(q));
}

void PlaneQueries::set_bound(int64_t q, int32_t bound) { kernels_.set_bound(std::max(bound, 1), query(q)); }

}  // namespace dshc::cpu
