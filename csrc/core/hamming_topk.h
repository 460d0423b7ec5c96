// hamming_topk: for each query its k best items, sorted by (rank value, index).
// 1 <= k <= n_db. Where fewer than k items are allowed the rest is index -1 and count 2^31 - 1 (overlap: -1).
#pragma once
#include "types.h"

namespace dshc::cpu {

void hamming_topk(const Pairs& pairs, int64_t k, int32_t* counts /* [n_query, k] */, int64_t* indices /* [n_query, k] */,
                  int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

// How the database is walked; the answer is the same. `rows`: two passes, for any k and any code; `popc` and `mma`: one pass,
// where they can (k <= 10,240, codes of at most 32 bytes; mma: 128 bytes, by tensor cores of compute capability 8.0, else as
// `popc`), else two.
enum class TopkKernel : int32_t { automatic = 0, rows = 1, popc = 2, mma = 3 };

int64_t hamming_topk_workspace_bytes(const Pairs& pairs, int64_t k, TopkKernel kernel);
int hamming_topk(const Pairs& pairs, int64_t k, TopkKernel kernel, int32_t* counts /* [n_query, k] */,
                 int64_t* indices /* [n_query, k] */, void* workspace, void* stream);

}  // namespace dshc::cuda
