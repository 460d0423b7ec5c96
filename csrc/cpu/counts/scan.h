// The walk that hands out rows: queries against cache-sized blocks of the database, for the ops that need every value.
//
// A block of codes (16 KiB) is compared with every query of a small group before the next block is touched, so that the
// database is read from memory once per group and from the first-level cache otherwise. For each (query, block) the op
// receives a `row` of 16-bit rank values, in ascending order of items; relevance and `allowed` are folded into these
// values (Marks), which is why an op's own loop has neither a branch nor a second array to read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../call/blocks.h"
#include "../call/call.h"
#include "../kernels/level.h"

namespace dshc::cpu {

// How the values of a row are marked: value + relevant_offset where the item is relevant, not_allowed where it may not be
// answered.
struct Marks {
  uint16_t relevant_offset;
  uint16_t not_allowed;
};

// Items in a block for this code length; a multiple of 64.
int64_t block_items(int32_t stride);

void mark_not_allowed(const uint8_t* allowed, int64_t first, int64_t n, uint16_t mark, uint16_t* row);

// Calls consume(query, first_item, n, row) for each block of [db_begin, db_end) and each query of [query_begin,
// query_end), blocks ascending. `row` may be changed by consume. `relevance` may be null.
template <class Consume>
void scan(const Pairs& pairs, const Relevance* relevance, Marks marks, int64_t query_begin, int64_t query_end,
          int64_t db_begin, int64_t db_end, Consume consume) {
  const RankKernels& kernels = *level().rank;
  StridedCodes query_codes(pairs.n_bytes), database_codes(pairs.n_bytes);
  const int32_t stride = query_codes.stride();
  const uint8_t* queries = query_codes.load(pairs.queries, query_begin, query_end - query_begin);
  const int64_t block = block_items(stride);
  const uint16_t overlap_top = static_cast<uint16_t>(8 * pairs.n_bytes);
  std::vector<uint16_t> row(static_cast<size_t>(block));
  for (int64_t first = db_begin; first < db_end; first += block) {
    const int64_t n = block < db_end - first ? block : db_end - first;
    stop_point(0.05 * static_cast<double>(n * (query_end - query_begin) * stride));
    const uint8_t* codes = database_codes.load(pairs.database, first, n);
    for (int64_t query = query_begin; query < query_end; ++query) {
      kernels.rank_row(pairs.score, queries + (query - query_begin) * stride, codes, n, stride, overlap_top, row.data());
      if (relevance && relevance->database_ids) {
        kernels.add_relevance_ids(row.data(), relevance->database_ids + first, relevance->query_ids[query], n,
                                  marks.relevant_offset);
      } else if (relevance) {
        kernels.add_relevance_words(row.data(), relevance->database_words + first * relevance->n_words,
                                    relevance->query_words + query * relevance->n_words, relevance->n_words, n,
                                    marks.relevant_offset);
      }
      if (pairs.allowed) {
        mark_not_allowed(pairs.allowed + query * pairs.allowed_stride, first, n, marks.not_allowed, row.data());
      }
      consume(query, first, n, row.data());
    }
  }
}

}  // namespace dshc::cpu
