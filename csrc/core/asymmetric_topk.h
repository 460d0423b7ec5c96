// asymmetric_topk: real-valued queries against packed codes; for each query its k nearest items by (distance, index).
//
// The distance of an item is the sum of |u_j| over the bits j in which its code differs from the sign of output u_j (bit set:
// u_j > 0, as pack_codes has it). It is a float32, and one and the same on every device, level and number of threads: the
// order of its additions is fixed, and each is rounded to the nearest. With w_j = |u_j| where bit j differs and else 0, a byte is
// ((w_0 + w_1) + (w_2 + w_3)) + ((w_4 + w_5) + (w_6 + w_7)), and bytes are added one after the other, from the first. There is
// no product that could be contracted with a sum. Bits past n_bits weigh nothing, whatever a code holds there.
//
// float64 outputs are rounded to float32 first. Infinities are weights like any other; a distance may overflow to +inf, which
// ranks last among the items that may be answered. 1 <= k <= n_db; where fewer than k items are allowed the rest is index -1
// and distance +inf.
#pragma once
#include "types.h"

namespace dshc {

struct AsymmetricPairs {
  const void* outputs;      // [n_query, n_bits] of `dtype`
  DType dtype;              // a float type
  const uint8_t* database;  // [n_db] codes of n_bytes, `stride` bytes apart
  int64_t n_query;
  int64_t n_db;
  int64_t stride;
  int32_t n_bits;           // 1 to 8 * n_bytes
  int32_t n_bytes;          // 1 to 512
  const uint8_t* allowed;   // as in Pairs
  int64_t allowed_stride;
  Partition equal_codes = {};  // of the database, where somebody has looked; the CUDA back end uses none
};

}  // namespace dshc

namespace dshc::cpu {

// Reports the first row that holds a NaN if `check`; unchecked, a NaN weighs nothing.
Status asymmetric_topk(const AsymmetricPairs& pairs, int64_t k, float* distances /* [n_query, k] */,
                       int64_t* indices /* [n_query, k] */, bool check, int n_threads);

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t. A NaN weighs nothing.
namespace dshc::cuda {

int64_t asymmetric_topk_workspace_bytes(const AsymmetricPairs& pairs, int64_t k);
int asymmetric_topk(const AsymmetricPairs& pairs, int64_t k, float* distances /* [n_query, k] */,
                    int64_t* indices /* [n_query, k] */, void* workspace, void* stream);

}  // namespace dshc::cuda
