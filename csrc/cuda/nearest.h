// The k nearest of a chunk of queries on their way from a selection (asymmetric_topk.cu) to the answer (sort_nearest.cu).
#pragma once
#include "launch.h"

namespace dshc::cuda {

constexpr uint32_t kBeyondAll = 0x7F800001;  // +inf is the bits before

using Counter = unsigned long long;  // what atomics know

// What is known of a query's k-th distance. All zero before the first digit.
struct NearestSelection {
  uint32_t bits, known;  // its digits so far, and their mask; at the end the distance, or kBeyondAll where fewer are allowed
  int64_t n_below;       // items that lie below for certain
};

struct NearestPlan {
  int64_t shard_items, n_shards;
  int64_t chunk;                   // queries per round
  int64_t first_query, n_queries;  // of this round
  int64_t k;
};

struct NearestWorkspace {
  NearestSelection* selections;  // [chunk]
  Counter* histograms;    // [chunk, kDigits]
  int64_t* places;        // [chunk, 2, n_shards]: items below, items at the k-th distance; then those in shards before
  int64_t* indices;       // [chunk, k], for sorting
  uint32_t* bits;         // [chunk, k]
  float* outputs;         // [chunk, n_bits]
  int64_t n_bytes;
};

// Sorts each query's items below its k-th distance, which lie in order of index at the beginning of its answer, and writes
// what an answer lacks.
int sort_nearest(const NearestPlan& plan, const NearestWorkspace& work, float* distances /* [n_query, k] */,
                 int64_t* indices /* [n_query, k] */, Stream stream);

}  // namespace dshc::cuda
