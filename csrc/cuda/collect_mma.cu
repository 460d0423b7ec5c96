// Collects (collect.h) on the tensor cores: a block's queries times 16 items at a time, as single-bit matrix products.
//
// The tensor cores count ANDs (mma.h). XOR becomes AND by writing code and complement one after the other,
//     popcount(a ^ q) = popcount([a, ~a] AND [~q, q]),
// which is 128 columns for codes up to 64 bits, 256 up to 128, twice 256 beyond; overlap is AND by itself. The accumulators
// begin at minus the query's bound, so that what comes out is negative where an item enters: nothing is subtracted or
// compared, signs are joined by three-input ORs (ANDs for overlap, which counts upwards) and one vote asks about 1,024 pairs. Counting for a radius search is the
// same, with sums in the place of the queue.
//
// Layout: the queries' operands in shared memory, in the order in which lanes take them (one read without conflicts, no two
// lanes share a word), and what their accumulators begin at, as the four words of a product, so that a read of 16 bytes is
// all that an accumulator costs. Thread map: a warp holds 128 items in registers, as eight matrices of 16 rows (beyond 128 bits
// 64, as four), and goes through the queries 8 columns at a time; lane 4 g + t sees rows g, g + 8 and columns 2 t, 2 t + 1.
// A warp's items come through shared memory, copied without passing by registers two or three steps ahead: so that few queries
// are as fast as memory is, and many do not wait for it. What enters (a pair in a million) is queued for each warp, as query and
// item, and kept when the queue is full or the piece is done, 32 at a time: no product waits for a counter in global memory.
//
// Floor at 64 bits: one mma of 128 columns for 128 pairs, all of its products of use, some 114 pairs a clock and multiprocessor
// on 9.0. Beside the eight of 1,024 pairs a warp executes 2 shared reads, 16 three-input ORs, a vote and some six to go
// round: about 33 instructions, 4 of which are issued a clock.
// Why not 8-bit products of +-1: as fast at 64 bits on paper, but codes would have to be spread out to bytes first.
// Why not wgmma: its pace for single bits is that of mma, and its accumulators begin at zero or at what registers hold.
// Limits: codes of at most 32 bytes (longer ones: collect_mma_long.cu); compute capability 8.0.
#include "async_copy.h"
#include "collect_mma.h"

namespace dshc::cuda {
namespace {

// How codes of kWords words become matrices. A lane's word of a row is word `t % kWords`, beyond 128 bits words 2 t and 2 t + 1.
template <int kWords, bool kOverlap>
struct Shape {
  static constexpr int kRaw = kWords == 8 ? 2 : 1;               // words of a row that a lane reads
  static constexpr int kLaneWords = kOverlap ? kRaw : (kWords >= 4 ? 2 : 1);  // of one product: 128 columns a word
  static constexpr int kSteps = !kOverlap && kWords == 8 ? 2 : 1;             // products a row
  static constexpr int kOperand = kLaneWords * kSteps;           // a lane's words of a query
  static constexpr int kMatrices = kWords == 8 ? 4 : 8;          // more would need more registers than there are
  static constexpr int kItems = kMatrices * kRows;               // of a warp's step
  static constexpr int kStages = kWords <= 2 ? 4 : 3;            // steps on the way and the one at work
  static constexpr int kStageBytes = kItems * kWords * 4;

  static __device__ __forceinline__ int raw_word(int j, int t) { return kWords == 8 ? 2 * t + j : t % kWords; }

  // What a word of an item (of a query: `is_query`) is multiplied as: itself or its complement, or 0.
  static __device__ __forceinline__ uint32_t column_word(uint32_t raw, int i, int t, bool is_query) {
    if (kWords < 4 && t >= (kOverlap ? kWords : 2 * kWords)) return 0;
    if (kOverlap) return raw;
    const bool complement = kWords < 4 ? t >= kWords : i % 2 == 1;
    return complement != is_query ? ~raw : raw;
  }

  // Which of a lane's raw words its i-th operand word is made of.
  static __host__ __device__ constexpr int raw_of(int i) { return kOverlap ? i : i / kLaneWords; }
};

// Matrices of the same queries, 16 items after 16.
struct Place {
  int first_column, first_item;
  __device__ __forceinline__ int column(int) const { return first_column; }
  __device__ __forceinline__ int item(int four) const { return first_item + four * kRows; }
};

// What a block has in shared memory before the walk's own words, by offset.
template <int kWords, bool kOverlap>
struct MmaShared {
  using Of = Shape<kWords, kOverlap>;
  using Operand = Code<Of::kOperand>;
  Operand* operands;  // [group / kColumns, kWarp]
  int4* starts;       // [group / kColumns, 4] accumulators of columns 2 t, 2 t + 1, 2 t, 2 t + 1
  unsigned char* stages;  // [kWarps, kStages, kStageBytes]
  uint32_t* queues;   // [kWarps, kQueue]

  static constexpr size_t bytes(int group) {
    return static_cast<size_t>(group / kColumns) * (kWarp * sizeof(Operand) + 4 * sizeof(int4)) +
           kWarps * (Of::kStages * Of::kStageBytes + kQueue * sizeof(uint32_t));
  }
  __device__ __forceinline__ explicit MmaShared(int group) {
    operands = dynamic_shared<Operand>();
    starts = reinterpret_cast<int4*>(operands + group / kColumns * kWarp);
    stages = reinterpret_cast<unsigned char*>(starts + group / kColumns * 4);
    queues = reinterpret_cast<uint32_t*>(stages + kWarps * Of::kStages * Of::kStageBytes);
  }
  __device__ __forceinline__ void* end() const { return queues + kWarps * kQueue; }
};

// Begins to bring the codes of a warp's step to shared memory, zeros behind the database's end. If kVectors
// (reads_vectors() says whether that is possible), by copies of 16 bytes.
template <int kWords, int kItems, bool kVectors>
__device__ __forceinline__ void bring_codes(const Pairs& pairs, int64_t first, bool whole, unsigned char* stage) {
  if constexpr (kVectors) {
    const int64_t there = (pairs.n_db - first) * (4 * kWords);
    const uint8_t* from = pairs.database + first * (4 * kWords);
#pragma unroll
    for (int i = 0; i < kItems * kWords * 4 / 16 / kWarp; ++i) {
      const int at = 16 * (i * kWarp + lane());
      const int64_t left = there - at;
      // What is not there is not pointed at either.
      copy_async(stage + at, left > 0 ? from + at : pairs.database, left >= 16 ? 16 : (left > 0 ? static_cast<int>(left) : 0));
    }
  } else {
    auto* words = reinterpret_cast<uint32_t*>(stage);
#pragma unroll 1
    for (int at = lane(); at < kItems * kWords; at += kWarp) {
      const int64_t item = first + at / kWords;
      words[at] = item < pairs.n_db ? load_word(pairs.database + item * pairs.n_bytes, at % kWords, pairs.n_bytes, whole) : 0;
    }
  }
}

// `found` [n_query]: where they are counted.
template <int kWords, bool kOverlap, bool kVectors, Entering kEntering>
__global__ void __launch_bounds__(kCollectThreads, kMmaBlocks)
    collect_mma_kernel(Pairs pairs, CollectPlan plan, Collected to, unsigned long long* found) {
  using Of = Shape<kWords, kOverlap>;
  constexpr int kMatrices = Of::kMatrices, kLaneWords = Of::kLaneWords, kStep = Of::kItems * kWarps;
  static_assert(kTicketTile % kStep == 0, "a tile is whole steps");
  using Operand = Code<Of::kOperand>;
  const MmaShared<kWords, kOverlap> mine(plan.group);
  const WalkShared shared(mine.end(), plan.group);
  auto* const counts = reinterpret_cast<unsigned*>(mine.queues);  // [group] of this piece, if they are counted
  unsigned char* const stages = mine.stages + warp() * (Of::kStages * Of::kStageBytes);
  uint32_t* const queue = mine.queues + warp() * kQueue;
  const int g = lane() / 4, t = lane() % 4;
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);

  const auto load = [&](int group) {
    for (int at = static_cast<int>(threadIdx.x); at < plan.group / kColumns * kWarp; at += kCollectThreads) {
      const int64_t query = int64_t{group} * plan.group + at / kWarp * kColumns + at % kWarp / 4;
      const int place = at % 4;
      Operand operand{};
      for (int i = 0; i < Of::kOperand && query < plan.n_query; ++i) {
        const uint32_t raw =
            load_word(pairs.queries + query * pairs.n_bytes, Of::raw_word(Of::raw_of(i), place), pairs.n_bytes, false);
        operand.words[i] = Of::column_word(raw, i, place, true);
      }
      mine.operands[at] = operand;
    }
  };

  const auto scan = [&](int group, int64_t begin, int64_t end) {
    const int64_t there = plan.n_query - int64_t{group} * plan.group;
    const int n_columns = ((there < plan.group ? static_cast<int>(there) : plan.group) + kColumns - 1) / kColumns;
    for (int i = static_cast<int>(threadIdx.x); i < 4 * n_columns; i += kCollectThreads) {
      const int left = first_sum<kOverlap>(shared.bounds[2 * i], 8 * pairs.n_bytes);
      const int right = first_sum<kOverlap>(shared.bounds[2 * i + 1], 8 * pairs.n_bytes);
      mine.starts[i] = make_int4(left, right, left, right);
      if (kEntering == Entering::counted) counts[2 * i] = counts[2 * i + 1] = 0;
    }
    if (end > pairs.n_db) end = pairs.n_db;
    int64_t first = begin + warp() * Of::kItems;
    const auto bring = [&](int64_t step_first, int stage) {
      if (step_first < end) {
        bring_codes<kWords, Of::kItems, kVectors>(pairs, step_first, whole, stages + stage * Of::kStageBytes);
      }
      end_copy_group();
    };
#pragma unroll
    for (int stage = 0; stage + 1 < Of::kStages; ++stage) bring(first + stage * kStep, stage);
    __syncthreads();  // the accumulators' beginnings are there
    int n_queued = 0, stage = 0, column = first_of(n_columns);
    const Operand* const operands = mine.operands + lane();
    const int4* const starts = mine.starts + t;
    Operand next_operand = operands[column * kWarp];
    int4 next_start = starts[column * 4];
#pragma unroll 1
    for (; first < end; first += kStep) {
      wait_for_copies<Of::kStages - 2>();
      __syncwarp();  // this step's codes are there for all lanes, and those of the step before are read
      bring(first + (Of::kStages - 1) * kStep, stage == 0 ? Of::kStages - 1 : stage - 1);
      uint32_t items[kMatrices][Of::kSteps][2 * kLaneWords];
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const auto* codes = reinterpret_cast<const uint32_t*>(stages + stage * Of::kStageBytes);
          uint32_t raw[Of::kRaw];
          const uint32_t* row = codes + (m * kRows + half * 8 + g) * kWords + Of::raw_word(0, t);
          if constexpr (Of::kRaw == 2) {
            const uint2 both = *reinterpret_cast<const uint2*>(row);
            raw[0] = both.x;
            raw[1] = both.y;
          } else {
            raw[0] = *row;
          }
#pragma unroll
          for (int i = 0; i < Of::kOperand; ++i) {
            items[m][i / kLaneWords][i % kLaneWords * 2 + half] = Of::column_word(raw[Of::raw_of(i)], i, t, false);
          }
        }
      }
      stage = stage + 1 < Of::kStages ? stage + 1 : 0;
#pragma unroll 1
      for (int left = n_columns; left > 0; --left) {
        const Operand operand = next_operand;
        const int start[4] = {next_start.x, next_start.y, next_start.z, next_start.w};
        const int at = column * kColumns;
        column = column + 1 < n_columns ? column + 1 : 0;
        next_operand = operands[column * kWarp];  // on the way while this one is multiplied
        next_start = starts[column * 4];
        int sums[4 * kMatrices];
#pragma unroll
        for (int m = 0; m < kMatrices; ++m) {
          int of_matrix[4];
#pragma unroll
          for (int step = 0; step < Of::kSteps; ++step) {
            uint32_t words[kLaneWords];
#pragma unroll
            for (int w = 0; w < kLaneWords; ++w) words[w] = operand.words[step * kLaneWords + w];
            if (step == 0) multiply_bits<kLaneWords>(of_matrix, items[m][step], words, start);
            else multiply_bits<kLaneWords>(of_matrix, items[m][step], words, of_matrix);
          }
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[4 * m + i] = of_matrix[i];
        }
        if (!__any_sync(kFullMask, (join<kOverlap>(sums) < 0) != kOverlap)) continue;
        const Place place{at, static_cast<int>(first - begin)};
        if constexpr (kEntering == Entering::kept) {
          queue_entering<kOverlap>(sums, place, queue, &n_queued, [&](int n) {
            keep_queued(pairs, plan, to, shared, group, begin, queue, n);
          });
        } else {
          count_entering<kOverlap, kMatrices>(sums, 0, place, pairs.n_db - begin, counts);
        }
      }
    }
    wait_for_copies<0>();  // none is on the way when the stages are filled again
    if constexpr (kEntering == Entering::kept) {
      keep_queued(pairs, plan, to, shared, group, begin, queue, n_queued);
    } else {
      add_counts(plan, group, counts, found);
    }
  };
  walk_pieces<kEntering>(plan, to, shared, load, scan);
}

template <Entering kEntering>
int launch_mma(const Pairs& pairs, const CollectPlan& plan, const Collected& to, unsigned long long* found, Stream stream) {
  if (pairs.n_bytes > kMostCodeBytes) return launch_mma_long(pairs, plan, to, found, stream);
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    constexpr int kWords = decltype(words)::value;
    const bool vectors = reads_vectors(pairs.database, pairs.n_bytes) && plan.first_item * pairs.n_bytes % 16 == 0;
    const auto launch_with = [&](auto overlap) {
      constexpr bool kOverlap = decltype(overlap)::value != 0;
      auto* kernel = vectors ? collect_mma_kernel<kWords, kOverlap, true, kEntering>
                             : collect_mma_kernel<kWords, kOverlap, false, kEntering>;
      const size_t shared = MmaShared<kWords, kOverlap>::bytes(plan.group) + WalkShared::bytes(plan.group);
      return launch(kernel, grid_of(plan.blocks), dim3(kCollectThreads), shared, stream, pairs, plan, to, found);
    };
    return pairs.score == Score::overlap ? launch_with(Words<1>{}) : launch_with(Words<0>{});
  });
}

}  // namespace

int collect_mma(const Pairs& pairs, const CollectPlan& plan, const Collected& to, Stream stream) {
  return launch_mma<Entering::kept>(pairs, plan, to, nullptr, stream);
}

int count_mma(const Pairs& pairs, const CollectPlan& plan, int64_t* found, Stream stream) {
  return launch_mma<Entering::counted>(pairs, plan, {}, reinterpret_cast<unsigned long long*>(found), stream);
}

}  // namespace dshc::cuda
