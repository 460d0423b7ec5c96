// The rows of logits of class_softmax_loss.cu and class_softmax_loss_backward.cu: who holds them, and the run of columns of a
// row's class. Logits are [n, n_columns] row by row, at any alignment. Thread maps:
// * up to 1024 columns (float64: 512) one warp per row, up to four rows per block, fewer where blocks would be fewer than
//   multiprocessors; no barrier. The row is in registers, 16 or 32 logits a lane, two neighbours a load where rows are even
//   and lie so, all of them asked for, with the label, before anything is looked at: a small batch waits for memory twice
//   (label and logits, class offsets).
// * beyond, a block of 256 threads per row: 16 bytes per load from the row's first 16-byte boundary on, four of them a thread
//   worked on while four more are on the way (16 KiB a block, 64 KiB a multiprocessor at four blocks; an H200 needs about
//   32 KiB there at 4.3 TB/s and some 1 us). The few values outside the boundaries are read one by one.
// Why not several blocks per row: 2^16 columns and more come with batches, whose rows fill the GPU. Limits: 2^31 rows (grid).
#pragma once
#include "../core/class_softmax_loss.h"
#include "max_sum.h"
#include "vectors.h"

namespace dshc::cuda {

constexpr int kThreads = 256, kTogether = 4;
constexpr int kStep = kTogether * kThreads;  // vectors of a long row at work together
constexpr int kMostRows = 4;  // a block, of rows in registers
// Columns of such a row; float64 needs two registers for each.
template <class R> constexpr int64_t kHeldColumns = (sizeof(R) == 8 ? 16 : 32) * kWarp;

struct Run {
  int64_t first, last;
};

// False for a row that counts nowhere.
__device__ __forceinline__ bool run_of(const ClassSoftmax& task, int64_t label, Run* run) {
  if (label == task.ignore_index || label < 0 || label >= task.n_classes) return false;
  run->first = clamped_offset(task.class_offsets[label], task.n_subclasses);
  run->last = clamped_offset(task.class_offsets[label + 1], task.n_subclasses);
  return true;
}

// The columns of the run that lie in these logits.
__device__ __forceinline__ Run columns_of(const ClassSoftmax& task, Run run) {
  return {clamped_offset(run.first - task.first_column, task.n_columns),
          clamped_offset(run.last - task.first_column, task.n_columns)};
}

// ---- a row in the registers of a warp ----

// Two neighbours in a row as one load.
template <int kBytes> struct Word;
template <> struct Word<4> { using type = uint32_t; };
template <> struct Word<8> { using type = uint2; };
template <> struct Word<16> { using type = uint4; };
template <class T> using PairWord = typename Word<2 * sizeof(T)>::type;

template <class T>
__device__ __forceinline__ PairWord<T> pair_of(T first, T second) {
  const T two[2] = {first, second};
  PairWord<T> word;
  memcpy(&word, two, sizeof word);
  return word;
}

// held[i] is column held_column(i): neighbours in pairs, so that a lane asks half as often.
__device__ __forceinline__ int held_column(int i) { return 2 * (lane() + i / 2 * kWarp) + i % 2; }

// Whether every pair of a row lies as one word does; the same for a whole warp.
template <class T>
__device__ __forceinline__ bool in_pairs(const T* row, int n) {
  return reinterpret_cast<uintptr_t>(row) % sizeof(PairWord<T>) == 0 && n % 2 == 0;
}

// `otherwise` behind the end of the row. All loads come before the first use of one: a use between them would wait.
template <class T, int kHeld>
__device__ __forceinline__ void hold_row(const T* row, int n, T otherwise, Real<T> (&held)[kHeld]) {
  const T* own = row + 2 * lane();
  const int left = n - 2 * lane();
  if (in_pairs(row, n)) {
    PairWord<T> words[kHeld / 2];
#pragma unroll
    for (int i = 0; i < kHeld / 2; ++i) {
      words[i] = pair_of(otherwise, otherwise);
      if (2 * kWarp * i < left) words[i] = *reinterpret_cast<const PairWord<T>*>(own + 2 * kWarp * i);
    }
#pragma unroll
    for (int i = 0; i < kHeld / 2; ++i) {
      T two[2];
      memcpy(two, &words[i], sizeof two);
      held[2 * i] = to_real(two[0]);
      held[2 * i + 1] = to_real(two[1]);
    }
    return;
  }
  T values[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int j = i / 2 * 2 * kWarp + i % 2;
    values[i] = otherwise;
    if (j < left) values[i] = own[j];
  }
#pragma unroll
  for (int i = 0; i < kHeld; ++i) held[i] = to_real(values[i]);
}

// What to launch where a warp holds a row.
struct HeldRows {
  dim3 grid, block;
};

inline HeldRows held_rows(int64_t n) {
  int rows = kMostRows;
  while (rows > 1 && divide_up(n, rows) < 2 * multiprocessors()) rows /= 2;
  return {grid_of(divide_up(n, rows)), dim3(rows * kWarp)};
}

}  // namespace dshc::cuda
