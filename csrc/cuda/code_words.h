// Scores of hash codes, word by word. A code is read as 64-bit words where its length and the arrays' addresses allow it,
// else as 32-bit words, else as bytes.
#pragma once
#include "../core/types.h"
#include "launch.h"

namespace dshc::cuda {

__device__ __forceinline__ int count_bits(uint64_t word) { return __popcll(word); }
__device__ __forceinline__ int count_bits(uint32_t word) { return __popc(word); }
__device__ __forceinline__ int count_bits(uint8_t word) { return __popc(static_cast<unsigned>(word)); }

// XOR count or AND count of two words; `use_xor` is all ones or 0, which makes either a single three-input instruction.
template <class Word>
__device__ __forceinline__ int score_bits(Word a, Word b, Word use_xor) {
  return count_bits(static_cast<Word>((a & b & ~use_xor) | ((a ^ b) & use_xor)));
}

template <class Word>
__device__ __forceinline__ Word xor_mask(Score score) {
  return score == Score::hamming ? static_cast<Word>(~Word{0}) : Word{0};
}

// Copies the codes of queries [first, end), at most `n`, into shared memory; the rest of the n is zero.
template <class Word>
__device__ __forceinline__ void load_queries(const Pairs& pairs, int64_t first, int64_t end, int n, Word* to) {
  const int n_words = pairs.n_bytes / static_cast<int>(sizeof(Word));
  const Word* from = reinterpret_cast<const Word*>(pairs.queries) + first * n_words;
  const int64_t there = (end - first) * n_words;
  for (int i = static_cast<int>(threadIdx.x); i < n * n_words; i += static_cast<int>(blockDim.x)) {
    to[i] = i < there ? from[i] : Word{0};
  }
}

// counts[q][i] of kQueries queries in shared memory against kItems items of one thread, `step` items apart. Each query
// word is read once for all items of the thread and each item word once for all queries, so that counting bits is what
// the loop waits for. Items from `end` on are not read and count 0. Item i is row i * item_step of the database.
template <class Word, int kQueries, int kItems>
__device__ __forceinline__ void score_items(const Pairs& pairs, const Word* queries, int64_t item, int64_t step,
                                            int64_t end, int64_t item_step, int (&counts)[kQueries][kItems]) {
  const int n_words = pairs.n_bytes / static_cast<int>(sizeof(Word));
  const Word use_xor = xor_mask<Word>(pairs.score);
  const int64_t row_words = item_step * n_words;
  const Word* codes = reinterpret_cast<const Word*>(pairs.database) + item * row_words;
#pragma unroll
  for (int q = 0; q < kQueries; ++q) {
#pragma unroll
    for (int i = 0; i < kItems; ++i) counts[q][i] = 0;
  }
  for (int w = 0; w < n_words; ++w) {
    Word words[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) words[i] = item + i * step < end ? codes[i * step * row_words + w] : Word{0};
#pragma unroll
    for (int q = 0; q < kQueries; ++q) {
      const Word query = queries[q * n_words + w];
#pragma unroll
      for (int i = 0; i < kItems; ++i) counts[q][i] += score_bits(query, words[i], use_xor);
    }
  }
}

// work(Word{}) with the widest word that fits both arrays.
template <class Work>
int with_word(const Pairs& pairs, Work work) {
  const uintptr_t all = reinterpret_cast<uintptr_t>(pairs.queries) | reinterpret_cast<uintptr_t>(pairs.database) |
                        static_cast<uintptr_t>(pairs.n_bytes);
  if (all % 8 == 0) return work(uint64_t{0});
  if (all % 4 == 0) return work(uint32_t{0});
  return work(uint8_t{0});
}

// 32-bit words, 1, 2, 4 or 8, that a code of at most 32 bytes is padded to where its words are held in registers.
constexpr int padded_words(int n_bytes) { return n_bytes <= 4 ? 1 : n_bytes <= 8 ? 2 : n_bytes <= 16 ? 4 : 8; }

template <int kWords> struct Words { static constexpr int value = kWords; };

// work(Words<n>{}) for n = words, which is kMost, kMost / 2, ... or kLeast.
template <int kMost, int kLeast, class Work>
int with_words(int words, Work work) {
  if constexpr (kMost > kLeast) {
    return words == kMost ? work(Words<kMost>{}) : with_words<kMost / 2, kLeast>(words, work);
  } else {
    return work(Words<kLeast>{});
  }
}

template <class Work>
int with_padded_words(int n_bytes, Work work) {
  return with_words<8, 1>(padded_words(n_bytes), work);
}

}  // namespace dshc::cuda
