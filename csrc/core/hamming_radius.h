// hamming_radius: all items within a radius, in two calls because the size of the answer is not known before.
// Inside means XOR count <= radius (hamming) or AND count >= radius (overlap).
#pragma once
#include "types.h"

namespace dshc::cpu {

// How many items each query has inside: found [n_query].
void hamming_radius_count(const Pairs& pairs, int64_t radius, int64_t* found, int n_threads);

// The items, ordered like top-k; offsets [n_query + 1] are the running sums of `found`.
void hamming_radius_fill(const Pairs& pairs, int64_t radius, const int64_t* offsets, int64_t* indices, int32_t* counts,
                         int n_threads);

}  // namespace dshc::cpu
