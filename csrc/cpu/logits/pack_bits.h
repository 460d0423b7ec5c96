// Rows of yes/no answers to packed bits, for pack_codes and multilabel_codes.
#pragma once
#include <cstdint>

namespace dshc::cpu {

// codes [ceil(n_bits / 8)]: bit j is is_one(j); padding bits are 0.
template <class IsOne>
inline void pack_row(int64_t n_bits, uint8_t* codes, IsOne is_one) {
  int64_t j = 0;
  for (; j + 8 <= n_bits; j += 8) {
    uint32_t byte = 0;
    for (int bit = 0; bit < 8; ++bit) byte |= static_cast<uint32_t>(is_one(j + bit)) << bit;
    codes[j / 8] = static_cast<uint8_t>(byte);
  }
  if (j == n_bits) return;
  uint32_t byte = 0;
  for (int bit = 0; j + bit < n_bits; ++bit) byte |= static_cast<uint32_t>(is_one(j + bit)) << bit;
  codes[j / 8] = static_cast<uint8_t>(byte);
}

}  // namespace dshc::cpu
