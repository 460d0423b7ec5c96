// hamming_radius: all items within a radius. Inside means XOR count <= radius (hamming) or AND count >= radius (overlap).
// The size of the answer is not known before, so the CPU keeps what one walk finds until the caller has allocated room, and
// the GPU, where memory is dearer than a second walk, counts first.
#pragma once
#include "types.h"

namespace dshc::cpu {

class RadiusSearch {
 public:
  // Searches. The arrays of `pairs` must live as long as this.
  RadiusSearch(const Pairs& pairs, int64_t radius, int n_threads);
  ~RadiusSearch();
  RadiusSearch(const RadiusSearch&) = delete;
  RadiusSearch& operator=(const RadiusSearch&) = delete;

  int64_t n_found() const;

  // offsets [n_query + 1]; indices and counts [n_found()], ordered like top-k. Gives back what was kept: call it once.
  void write(int64_t* offsets, int64_t* indices, int32_t* counts, int n_threads);

 private:
  struct Found;
  Found* found_;  // owned
};

}  // namespace dshc::cpu

// Device pointers; `stream` is a cudaStream_t. Returns the launch's cudaError_t.
namespace dshc::cuda {

int hamming_radius_count(const Pairs& pairs, int64_t radius, int64_t* found, void* stream);

// n_found: of all queries, offsets[n_query]; indices and counts [n_found].
int64_t hamming_radius_workspace_bytes(const Pairs& pairs, int64_t n_found);
int hamming_radius_fill(const Pairs& pairs, int64_t radius, int64_t n_found, const int64_t* offsets /* [n_query + 1] */,
                        int64_t* indices, int32_t* counts, void* workspace, void* stream);

}  // namespace dshc::cuda
