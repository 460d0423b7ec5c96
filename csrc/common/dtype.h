// Which C++ type stands behind a DType.
#pragma once
#include <cstdint>

#include "../core/types.h"

namespace dshc {

inline int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float64: case DType::int64: case DType::uint64: return 8;
    case DType::float32: case DType::int32: case DType::uint32: return 4;
    case DType::float16: case DType::bfloat16: case DType::int16: case DType::uint16: return 2;
    case DType::int8: case DType::uint8: return 1;
  }
  return 0;
}

}  // namespace dshc
