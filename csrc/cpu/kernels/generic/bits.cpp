// Bits and values in plain C++.
#include "../bits.h"

namespace dshc::cpu {

extern const BitKernels kGenericBits;
const BitKernels kGenericBits = {pack_above_plain, kPositiveBytes, pack_bytes_plain, unpack_bits_plain, signed_sums_plain, add_signed_plain, signs_of};

}  // namespace dshc::cpu
