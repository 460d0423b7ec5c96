// How a call is cut up: queries and database into tasks, codes into blocks that stay in the cache; and what all walks of
// blocks know of a pair: its rank values, and how its codes lie as words.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../../core/types.h"

namespace dshc::cpu {

// The ranges a call is cut into: groups of queries times shards of the database, one task each.
struct Tasks {
  int64_t group, n_groups;  // queries per group
  int64_t shard, n_shards;  // database items a shard, a multiple of 64
  int n_threads;

  int64_t n_tasks() const { return n_groups * n_shards; }
};

// For the walk that hands out rows (counts/scan.h). `state_bytes`: what the op keeps for a query while it scans; bounds the
// group. `may_shard`: whether results of several shards can be merged.
Tasks cut_scan(const Pairs& pairs, int64_t state_bytes, bool may_shard, int n_threads);

// Rank values lie in [0, n_rank_values).
inline int32_t n_rank_values(const Pairs& pairs) { return 8 * pairs.n_bytes + 1; }

inline int32_t count_of(const Pairs& pairs, int32_t rank_value) {
  return pairs.score == Score::hamming ? rank_value : 8 * pairs.n_bytes - rank_value;
}

// How codes lie as words: word_bytes 4 for codes of up to 4 bytes, else 8.
struct WordShape {
  int32_t word_bytes, n_words;
  explicit WordShape(int32_t n_bytes) : word_bytes(n_bytes <= 4 ? 4 : 8), n_words(n_bytes <= 4 ? 1 : (n_bytes + 7) / 8) {}
  int32_t code_bytes() const { return word_bytes * n_words; }
};

// Codes of whole words, one after the other, as the inner loops of rows take them. Codes of other lengths are copied,
// zero-padded.
class StridedCodes {
 public:
  explicit StridedCodes(int32_t n_bytes) : n_bytes_(n_bytes), stride_(WordShape(n_bytes).code_bytes()) {}
  int32_t stride() const { return stride_; }
  // Valid until the next call.
  const uint8_t* load(const uint8_t* codes, int64_t first, int64_t n);

 private:
  int32_t n_bytes_, stride_;
  std::vector<uint8_t> copy_;
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// "1 group", "2 groups"; and what tasks there are, in words.
std::string number(int64_t n, const char* one);
std::string text(const Tasks& tasks);

}  // namespace dshc::cpu
