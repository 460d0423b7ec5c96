// The walk of top-k and radius search: groups of queries against cache-sized blocks of the database, through the filter of
// the SIMD level. A block (16 KiB of codes) stays in the first-level cache while all queries of a group pass over it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../core/types.h"
#include "scan.h"
#include "simd.h"
#include "survivors.h"

namespace dshc::cpu {

// How codes lie as words: word_bytes 4 for codes of up to 4 bytes, else 8.
struct WordShape {
  int32_t word_bytes, n_words;
  explicit WordShape(int32_t n_bytes) : word_bytes(n_bytes <= 4 ? 4 : 8), n_words(n_bytes <= 4 ? 1 : (n_bytes + 7) / 8) {}
  int32_t code_bytes() const { return word_bytes * n_words; }
};

// Whether so many queries are worth cutting blocks into half bytes, and the items of such a block.
bool half_bytes_pay(const Pairs& pairs, int64_t n_queries);
int64_t tiled_items(int32_t n_bytes);

// Word planes of blocks of the database: an aligned copy, or the database itself where its codes are single words and too
// few queries come to make up for the copy. Loads that cross no cache line, always from the same addresses: measured, the
// copy is worth a fifth of the pace with 100 queries.
class BlockPlanes {
 public:
  BlockPlanes(const Pairs& pairs, int64_t n_queries)
      : pairs_(pairs),
        shape_(pairs.n_bytes),
        tiled_(half_bytes_pay(pairs, n_queries)),
        in_place_(!tiled_ && n_queries < 16 && shape_.n_words == 1 && pairs.n_bytes == shape_.word_bytes),
        // The end of each block waits for its last loads; in place they come from far, so there should be few ends.
        block_(in_place_ && n_queries < 4 ? kMostBlockItems
               : tiled_                   ? tiled_items(pairs.n_bytes)
                                          : block_items(shape_.code_bytes())) {}
  int64_t items() const { return block_; }  // in a block
  WordShape shape() const { return shape_; }
  const uint8_t* load(int64_t first, int64_t n);  // valid until the next call
  const uint8_t* half_bytes(const FilterPass& pass);  // over the block loaded last; null: it is filtered without

 private:
  const Pairs& pairs_;
  WordShape shape_;
  bool tiled_, in_place_, cut_ = false;  // cut_: half_bytes_ are those of the block
  int64_t block_;
  struct alignas(64) Line {
    uint64_t words[8];
  };
  std::unique_ptr<Line[]> planes_, half_bytes_;
};

// Queries of a group as padded words, one after the other.
std::vector<uint64_t> query_words(const Pairs& pairs, int64_t begin, int64_t end);

// How the walk of one op is cut up; like Plan, for groups as wide as the filter likes them.
Plan make_filter_plan(const Pairs& pairs, int64_t state_bytes, int n_threads);

// Lets survivors(q), q in [begin, end), take what is in [db_begin, db_end).
template <class GetSurvivors>
void filter_walk(const Pairs& pairs, int64_t begin, int64_t end, int64_t db_begin, int64_t db_end,
                 GetSurvivors survivors) {
  const FilterKernels& kernels = *simd().filter;
  BlockPlanes planes(pairs, end - begin);
  const WordShape shape = planes.shape();
  const std::vector<uint64_t> words = query_words(pairs, begin, end);
  FilterPass pass{};
  pass.score = pairs.score;
  pass.n_bytes = pairs.n_bytes;
  pass.word_bytes = shape.word_bytes;
  pass.n_words = shape.n_words;
  // Blocks grow from a small one, because until a bound has fallen every item is a candidate.
  constexpr int64_t kFirstBlock = 128;
  int64_t block = kFirstBlock;
  for (int64_t first = db_begin; first < db_end; first += pass.n, block = 2 * block) {
    if (block > planes.items()) block = planes.items();
    pass.n = block < db_end - first ? block : db_end - first;
    pass.first = static_cast<uint64_t>(first);
    pass.plane_items = shape.n_words == 1 ? 0 : planes.items();
    pass.planes = planes.load(first, pass.n);
    for (int64_t query = begin; query < end; query += kFilterQueries) {
      pass.n_queries = static_cast<int>(kFilterQueries < end - query ? kFilterQueries : end - query);
      for (int q = 0; q < pass.n_queries; ++q) {
        Survivors& mine = survivors(query + q);
        pass.queries[q] = reinterpret_cast<const uint8_t*>(words.data()) + (query + q - begin) * 8 * shape.n_words;
        pass.bounds[q] = mine.bound();
        pass.allowed[q] = pairs.allowed ? pairs.allowed + (query + q) * pairs.allowed_stride + first / 8 : nullptr;
        pass.found[q] = mine.room(pass.n);
      }
      pass.half_bytes = planes.half_bytes(pass);
      kernels.filter(pass);
      for (int q = 0; q < pass.n_queries; ++q) survivors(query + q).take(pass.found[q]);
    }
  }
}

}  // namespace dshc::cpu
