// Arrays of a caller on the CPU, brought into the form that the ops read, and the looks at them that come with it. These
// steps are here and not left to the caller's framework, whose own threads may not survive a fork; each reads its array once.
#pragma once
#include "types.h"

namespace dshc::cpu {

// ids [n] of an integer dtype as narrow [n]. False if one does not fit (then narrow holds nothing).
bool narrow_ids(const void* ids, DType dtype, int64_t n, int32_t* narrow, int n_threads);

// Multi-hot labels [n, n_labels] as bits, words [n, ceil(n_labels / 64)], little-endian: a bit is 1 where the label is not
// 0. Returns the first row that holds anything but 0 and 1, else -1.
int64_t multi_hot_words(const void* labels, DType dtype, int64_t n, int64_t n_labels, uint64_t* words, int n_threads);

// rows [n, n_bytes], one every row_stride bytes, as wider [n, n_wider], filled up with zeros.
void widen_rows(const uint8_t* rows, int64_t n, int64_t n_bytes, int64_t row_stride, uint8_t* wider, int64_t n_wider,
                int n_threads);

// The largest of n bytes, one every `stride` bytes; 0 if there are none.
int largest_byte(const uint8_t* bytes, int64_t n, int64_t stride, int n_threads);

}  // namespace dshc::cpu
