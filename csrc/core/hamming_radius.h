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

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int hamming_radius_count(const Pairs& pairs, int64_t radius, int64_t* found, void* stream);

int64_t hamming_radius_workspace_bytes(const Pairs& pairs);
int hamming_radius_fill(const Pairs& pairs, int64_t radius, const int64_t* offsets, int64_t* indices, int32_t* counts,
                        void* workspace, void* stream);

}  // namespace dshc::cuda
