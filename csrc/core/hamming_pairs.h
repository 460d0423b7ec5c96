// hamming_pairs: all pairs of items of one set within a radius, each once: item i is answered with the items j > i whose XOR
// count is at most the radius. On a GPU it is put together from radius searches (dshc_fast/_cuda_ops.py).
#pragma once
#include "types.h"

namespace dshc {

struct CodeRows {
  const uint8_t* rows;         // [n, stride], zeros behind a code
  int64_t n;
  int32_t n_bytes;             // of a code, 1 to 512
  int32_t stride;              // from one code to the next
  Partition equal_codes = {};  // the CPU back end finds it itself where nobody has looked and it is worth it
};

namespace cpu {

class PairSearch {
 public:
  // Searches, and writes offsets [n + 1]. The arrays must live as long as this. Throws std::bad_alloc, with the number of
  // pairs in its text, where the answer does not fit in memory.
  PairSearch(const CodeRows& codes, int64_t radius, int64_t* offsets, int n_threads);
  ~PairSearch();
  PairSearch(const PairSearch&) = delete;
  PairSearch& operator=(const PairSearch&) = delete;

  int64_t n_found() const;

  // indices and distances [n_found()]; of item i those from offsets[i] on, in order of (distance, index). Gives back what
  // was kept: call it once.
  void write(int64_t* indices, int32_t* distances, int n_threads);

 private:
  struct Found;
  Found* found_;  // owned
};

}  // namespace cpu
}  // namespace dshc
