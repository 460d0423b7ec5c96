// Bit planes: of 512 items each bit is one plane of 64 bytes, so that one instruction works on a bit of every item.
#pragma once
#include <cstdint>

namespace dshc::cpu {

constexpr int64_t kPlaneItems = 512;
constexpr int64_t kPlaneWords = 8;

}  // namespace dshc::cpu
