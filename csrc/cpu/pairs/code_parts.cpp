#include "code_parts.h"

#include <algorithm>
#include <cmath>

namespace dshc::cpu {
namespace {

// For each bit how much it tells two codes apart: -log2 of the chance that it is equal in both, from some rows of all.
std::vector<double> bit_weights(const CodeRows& codes) {
  constexpr int64_t kMostRows = 256, kShare = 32, kFewest = 16;
  const int32_t n_bits = 8 * codes.n_bytes;
  const int64_t n_rows = std::min(kMostRows, codes.n / kShare);
  std::vector<double> weights(static_cast<size_t>(n_bits), 1.0);
  if (n_rows < kFewest) return weights;
  std::vector<int32_t> ones(static_cast<size_t>(n_bits), 0);
  for (int64_t r = 0; r < n_rows; ++r) {
    const uint8_t* code = codes.rows + codes.n / n_rows * r * codes.stride;
    for (int32_t bit = 0; bit < n_bits; ++bit) ones[static_cast<size_t>(bit)] += code[bit / 8] >> bit % 8 & 1;
  }
  constexpr double kLeast = 1e-3;  // a bit that is the same in all rows here
  for (size_t bit = 0; bit < weights.size(); ++bit) {
    const double share = static_cast<double>(ones[bit]) / static_cast<double>(n_rows);
    weights[bit] = std::max(kLeast, -std::log2(1.0 - 2.0 * share * (1.0 - share)));
  }
  return weights;
}

}  // namespace

CodeParts::CodeParts(const CodeRows& codes, int n_parts) : begins_(static_cast<size_t>(n_parts) + 1, 0) {
  const std::vector<double> weights = bit_weights(codes);
  const int32_t n_bits = 8 * codes.n_bytes;
  double all = 0.0, before = 0.0;
  for (const double weight : weights) all += weight;
  int32_t bit = 0;
  for (int part = 1; part < n_parts; ++part) {
    const double end = all * part / n_parts;
    const int32_t most = n_bits - (n_parts - part);  // a bit for each part to come
    do {
      before += weights[static_cast<size_t>(bit++)];
    } while (bit < most && before + 0.5 * weights[static_cast<size_t>(bit)] < end);
    begins_[static_cast<size_t>(part)] = bit;
  }
  begins_.back() = n_bits;
}

}  // namespace dshc::cpu
