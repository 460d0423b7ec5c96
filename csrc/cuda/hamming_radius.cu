// All items of each query within a radius: XOR count <= radius, or AND count >= radius.
//
// Two calls, because the size of the answer is not known before: the first counts, the second writes in the order of
// (rank value, index). Layout: found [n_query], then indices and counts [offsets[n_query]]. Counting: on tensor cores where they
// are faster (count_by_products in collect.h); else query_columns.cu up to 256 bits; beyond, one register a warp and one global
// atomic, thread map in rows.h. Writing: one pass that collects (collect.h) where balls are small; else ordered_items.cu, which
// counts by shard once more, so that nothing has to be kept between the two calls. Least possible for both calls: two passes of
// scoring and 12 bytes an answered item; met, or three.
#include "../core/hamming_radius.h"

#include "collect.h"
#include "ordered_items.h"
#include "query_columns.h"

namespace dshc::cuda {
namespace {

// Rank values below this one are inside.
int32_t value_limit(const Pairs& pairs, int64_t radius) {
  const int64_t top = 8 * pairs.n_bytes;
  if (pairs.score == Score::hamming) return static_cast<int32_t>((radius < top ? radius : top) + 1);
  return static_cast<int32_t>(radius > top ? 0 : top - radius + 1);
}

template <class Word, int kQueries>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks) count_inside_kernel(Pairs pairs, RowPlan plan, int32_t limit,
                                                                   int64_t* __restrict__ found /* [n_query] */) {
  unsigned inside = 0;  // a shard has at most 2^30 items
  walk_rows<Word, kQueries, false>(pairs, Relevance{}, plan, [&](int, uint16_t entry, int64_t) {
    inside += __popc(__ballot_sync(kFullMask, entry < limit));
  });
  const int64_t query = block_first_query(plan) + warp() % kQueries;
  if (lane() == 0 && query < plan.end_query) {
    atomicAdd(reinterpret_cast<unsigned long long*>(found + query), static_cast<unsigned long long>(inside));
  }
}

}  // namespace

int hamming_radius_count(const Pairs& pairs, int64_t radius, int64_t* found, void* stream) {
  if (pairs.n_query == 0) return 0;
  const int64_t bytes = pairs.n_query * static_cast<int64_t>(sizeof(int64_t));
  if (const int status = fill_zero(found, bytes, stream)) return status;
  const int32_t limit = value_limit(pairs, radius);
  if (!pairs.allowed && counts_by_products(pairs)) return count_by_products(pairs, limit, found, stream);
  return for_each_chunk(pairs, plan_rows(pairs), [&](const RowPlan& plan) {
    if (fits_columns(pairs)) return count_below(pairs, plan, limit, found, stream);
    return with_word_and_group(pairs, plan, [&](auto word, auto group) {
      return launch(count_inside_kernel<decltype(word), decltype(group)::value>, grid_of(plan.n_blocks()),
                    dim3(kRowThreads), row_shared_bytes(pairs, plan, 0), stream, pairs, plan, limit, found);
    });
  });
}

int64_t hamming_radius_workspace_bytes(const Pairs& pairs, int64_t n_found) {
  return can_collect_radius(pairs, n_found) ? collect_radius_workspace_bytes(pairs) : ordered_workspace_bytes(pairs);
}

int hamming_radius_fill(const Pairs& pairs, int64_t radius, int64_t n_found, const int64_t* offsets, int64_t* indices,
                        int32_t* counts, void* workspace, void* stream) {
  const int32_t limit = value_limit(pairs, radius);
  if (pairs.n_query == 0 || limit == 0) return 0;
  if (can_collect_radius(pairs, n_found)) {
    return collect_radius(pairs, limit, n_found, offsets, indices, counts, workspace, stream);
  }
  return write_ordered(pairs, {offsets, INT64_MAX, limit, indices, counts}, workspace, stream);
}

}  // namespace dshc::cuda
