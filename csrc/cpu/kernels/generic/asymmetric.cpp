// Weighted distances in plain C++, which has no byte shuffle for a quicker filter.
#include "../asymmetric.h"

namespace dshc::cpu {

extern const AsymmetricKernels kGenericAsymmetric;
const AsymmetricKernels kGenericAsymmetric = {arrange, distances_plain, nullptr};

}  // namespace dshc::cpu
