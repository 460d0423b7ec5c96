// The table of filters, which a level without bit matrices reads from behind the planes on.
#pragma once
#include "../level.h"

namespace dshc::cpu {

constexpr int kAvx512PlaneRows = 5;
extern const FilterRow kAvx512Filters[];  // filter.cpp

}  // namespace dshc::cpu
