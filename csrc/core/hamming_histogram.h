// hamming_histogram: how many items, and how many relevant items, each query has at each count (XOR or AND).
// Column j counts value j; items not allowed count nowhere. A count beyond n_bits (padding bits set, unchecked) falls
// into the last column, so that every item is counted once.
#pragma once
#include "types.h"

namespace dshc::cpu {

void hamming_histogram(const Pairs& pairs, const Relevance& relevance, int32_t n_bits,
                       int64_t* items /* [n_query, n_bits + 1] */, int64_t* relevant /* [n_query, n_bits + 1] */,
                       int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int hamming_histogram(const Pairs& pairs, const Relevance& relevance, int32_t n_bits,
                      int64_t* items /* [n_query, n_bits + 1] */, int64_t* relevant /* [n_query, n_bits + 1] */,
                      void* stream);

}  // namespace dshc::cuda
