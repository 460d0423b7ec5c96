// hamming_distance: the full matrix of counts (XOR for hamming, AND for overlap).
#pragma once
#include "types.h"

namespace dshc::cpu {

// Every pair is counted: `pairs.allowed` is not read.
void hamming_distance(const Pairs& pairs, int32_t* counts /* [n_query, n_db] */, int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int hamming_distance(const Pairs& pairs, int32_t* counts /* [n_query, n_db] */, void* stream);

}  // namespace dshc::cuda
