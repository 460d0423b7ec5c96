// Collects or counts on the tensor cores, as collect_mma.cu, codes of 33 to 128 bytes: those of binary embeddings.
//
// Such a code does not fit the registers of a matrix. So a warp holds the outputs of 32 items times 32 queries, and goes through the
// codes in chunks of 256 bits: two products of 256 columns each, code and complement (of overlap one), items and queries
// read from shared memory. A read of items serves 32 queries and a read of queries 32 items.
//
// Layout: queries in shared memory by eight, chunk and lane, the lane's two words together; items row by row, rows apart by an
// odd number of chunks, so that reads of 8 bytes meet no bank twice. Both hold codes and not their complements, which costs
// an instruction a word and halves the room. Words behind a code's end are zero in both, and stay so.
//
// Floor, n chunks: 16 n products of 128 x 256 bits for 1,024 pairs, 1.7 cycles of a multiprocessor each on 9.0; beside
// them 8 n reads of 8 bytes and 12 n complements a warp. Reading one query's database comes before either.
// Limits: 128 bytes, by shared memory; compute capability 8.0.
#include "async_copy.h"
#include "collect_mma.h"

namespace dshc::cuda {
namespace {

constexpr int kMatrices = 2, kTogether = 4;  // of 16 items; of 8 queries
constexpr int kItems = kMatrices * kRows, kStep = kItems * kWarps;
constexpr int kChunkWords = 8;  // 256 bits
static_assert(kTicketTile % kStep == 0, "a tile is whole steps");

__host__ __device__ constexpr int chunks_of(int n_bytes) { return (n_bytes + 31) / 32; }
__host__ __device__ constexpr int row_words(int n_bytes) { return kChunkWords * (chunks_of(n_bytes) | 1); }
// Fours of eights, whose last may have no queries.
__host__ __device__ constexpr int eights_of(int group) { return (group / kColumns + kTogether - 1) / kTogether * kTogether; }

struct LongShared {
  uint2* operands;        // [eights, chunks, kWarp]
  int4* starts;           // [eights, 4], as in collect_mma.cu
  unsigned char* stages;  // [kWarps, stages, kItems, row_words]
  uint32_t* queues;       // [kWarps, kQueue]

  static size_t bytes(int group, int n_bytes, int n_stages) {
    return static_cast<size_t>(eights_of(group)) * (chunks_of(n_bytes) * kWarp * sizeof(uint2) + 4 * sizeof(int4)) +
           static_cast<size_t>(kWarps) * (n_stages * kItems * row_words(n_bytes) + kQueue) * sizeof(uint32_t);
  }
  __device__ __forceinline__ LongShared(int group, int n_bytes, int n_stages) {
    operands = dynamic_shared<uint2>();
    starts = reinterpret_cast<int4*>(operands + eights_of(group) * chunks_of(n_bytes) * kWarp);
    stages = reinterpret_cast<unsigned char*>(starts + eights_of(group) * 4);
    queues = reinterpret_cast<uint32_t*>(stages) + kWarps * n_stages * kItems * row_words(n_bytes);
  }
  __device__ __forceinline__ void* end() const { return queues + kWarps * kQueue; }
};

// Fours by eight of the four, then by matrix.
struct Place {
  int first_column, first_item;
  __device__ __forceinline__ int column(int four) const { return first_column + four / kMatrices * kColumns; }
  __device__ __forceinline__ int item(int four) const { return first_item + four % kMatrices * kRows; }
};

// As bring_codes() of collect_mma.cu; kVectors where codes are whole 16 bytes and begin at a multiple of them.
template <bool kVectors>
__device__ __forceinline__ void bring_rows(const Pairs& pairs, int64_t first, bool whole, unsigned char* stage) {
  const int n_row = row_words(pairs.n_bytes);
  const int64_t there = pairs.n_db - first;
  if constexpr (kVectors) {
    const int of_row = pairs.n_bytes / 16, reciprocal = (65536 + of_row - 1) / of_row;  // exact for what it divides here
    const uint8_t* from = pairs.database + first * pairs.n_bytes;
    for (int at = lane(); at < kItems * of_row; at += kWarp) {
      const int row = at * reciprocal >> 16;
      unsigned char* to = stage + 4 * (row * n_row) + 16 * (at - row * of_row);
      copy_async(to, row < there ? from + 16 * at : pairs.database, row < there ? 16 : 0);
    }
  } else {
    const int n_words = chunks_of(pairs.n_bytes) * kChunkWords;
    auto* words = reinterpret_cast<uint32_t*>(stage);
#pragma unroll 1
    for (int row = 0; row < kItems; ++row) {
      const uint8_t* code = pairs.database + (first + row) * pairs.n_bytes;
      if (lane() < n_words) words[row * n_row + lane()] = row < there ? load_word(code, lane(), pairs.n_bytes, whole) : 0;
    }
  }
}

template <bool kOverlap, bool kVectors, Entering kEntering, int kStages>
__global__ void __launch_bounds__(kCollectThreads, kMmaBlocks)
    collect_mma_long_kernel(Pairs pairs, CollectPlan plan, Collected to, unsigned long long* found) {
  const LongShared mine(plan.group, pairs.n_bytes, kStages);
  const WalkShared shared(mine.end(), plan.group);
  auto* const counts = reinterpret_cast<unsigned*>(mine.queues);  // [group] of this piece, if they are counted
  const int n_row = row_words(pairs.n_bytes), n_chunks = chunks_of(pairs.n_bytes);
  unsigned char* const stages = mine.stages + warp() * (kStages * kItems * n_row * 4);
  uint32_t* const queue = mine.queues + warp() * kQueue;
  const int g = lane() / 4, t = lane() % 4;
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);
  for (int i = lane(); i < kStages * kItems * n_row; i += kWarp) reinterpret_cast<uint32_t*>(stages)[i] = 0;
  __syncwarp();

  const auto load = [&](int group) {
    for (int at = static_cast<int>(threadIdx.x); at < eights_of(plan.group) * n_chunks * kWarp; at += kCollectThreads) {
      const int of_lane = at % kWarp, chunk = at / kWarp % n_chunks, eight = at / kWarp / n_chunks;
      const int q = eight * kColumns + of_lane / 4;
      const int64_t query = int64_t{group} * plan.group + q;
      const int word = chunk * kChunkWords + of_lane % 4 * 2;
      const uint8_t* code = pairs.queries + query * pairs.n_bytes;
      uint2 operand = make_uint2(0, 0);
      if (q < plan.group && query < plan.n_query) {
        operand.x = load_word(code, word, pairs.n_bytes, false);
        operand.y = load_word(code, word + 1, pairs.n_bytes, false);
      }
      mine.operands[at] = operand;
    }
  };

  const auto scan = [&](int group, int64_t begin, int64_t end) {
    const int64_t there = plan.n_query - int64_t{group} * plan.group;
    const int n_here = there < plan.group ? static_cast<int>(there) : plan.group;
    const int n_eights = (n_here + kColumns * kTogether - 1) / (kColumns * kTogether) * kTogether;
    for (int i = static_cast<int>(threadIdx.x); i < 4 * n_eights; i += kCollectThreads) {
      const auto start = [&](int q) {
        return first_sum<kOverlap>(q < plan.group ? shared.bounds[q] : 0, 8 * pairs.n_bytes);
      };
      const int left = start(2 * i), right = start(2 * i + 1);
      mine.starts[i] = make_int4(left, right, left, right);
      if (kEntering == Entering::counted && 2 * i < plan.group) counts[2 * i] = counts[2 * i + 1] = 0;
    }
    if (end > pairs.n_db) end = pairs.n_db;
    int64_t first = begin + warp() * kItems;
    const auto bring = [&](int64_t step_first, int stage) {
      if (step_first < end) bring_rows<kVectors>(pairs, step_first, whole, stages + stage * (kItems * n_row * 4));
      end_copy_group();
    };
#pragma unroll
    for (int stage = 0; stage + 1 < kStages; ++stage) bring(first + stage * kStep, stage);
    __syncthreads();  // the accumulators' beginnings are there
    int n_queued = 0, stage = 0;
    const int n_fours = n_eights / kTogether, first_four = first_of(n_fours);
#pragma unroll 1
    for (; first < end; first += kStep) {
      wait_for_copies<kStages - 2>();
      __syncwarp();  // this step's codes are there for all lanes, and those of the step before are read
      bring(first + (kStages - 1) * kStep, stage == 0 ? kStages - 1 : stage - 1);
      const auto* rows = reinterpret_cast<const uint32_t*>(stages + stage * (kItems * n_row * 4)) + g * n_row + 2 * t;
      stage = stage + 1 < kStages ? stage + 1 : 0;
      int four = first_four;
#pragma unroll 1
      for (int left = n_fours; left > 0; --left) {
        const int column = four * kTogether * kColumns;
        const uint2* of_queries = mine.operands + four * kTogether * n_chunks * kWarp + lane();
        int sums[kTogether * kMatrices * 4];
        int accumulators[kTogether][kMatrices][4];
#pragma unroll
        for (int c = 0; c < kTogether; ++c) {
          const int4 start = mine.starts[(four * kTogether + c) * 4 + t];
#pragma unroll
          for (int m = 0; m < kMatrices; ++m) {
            accumulators[c][m][0] = start.x;
            accumulators[c][m][1] = start.y;
            accumulators[c][m][2] = start.z;
            accumulators[c][m][3] = start.w;
          }
        }
        four = four + 1 < n_fours ? four + 1 : 0;
#pragma unroll 1
        for (int chunk = 0; chunk < n_chunks; ++chunk) {
          uint2 items[kMatrices][2];  // of rows g and g + 8
#pragma unroll
          for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              items[m][half] =
                  *reinterpret_cast<const uint2*>(rows + (m * kRows + half * 8) * n_row + chunk * kChunkWords);
            }
          }
          uint2 queries[kTogether];
#pragma unroll
          for (int c = 0; c < kTogether; ++c) queries[c] = of_queries[(c * n_chunks + chunk) * kWarp];
          if constexpr (kOverlap) {
#pragma unroll
            for (int c = 0; c < kTogether; ++c) {
              const uint32_t b[2] = {queries[c].x, queries[c].y};
#pragma unroll
              for (int m = 0; m < kMatrices; ++m) {
                const uint32_t a[4] = {items[m][0].x, items[m][1].x, items[m][0].y, items[m][1].y};
                multiply_bits<2>(accumulators[c][m], a, b, accumulators[c][m]);
              }
            }
          } else {
#pragma unroll
            for (int c = 0; c < kTogether; ++c) {
              const uint32_t left_b[2] = {~queries[c].x, queries[c].x}, right_b[2] = {~queries[c].y, queries[c].y};
#pragma unroll
              for (int m = 0; m < kMatrices; ++m) {
                const uint32_t left_a[4] = {items[m][0].x, items[m][1].x, ~items[m][0].x, ~items[m][1].x};
                const uint32_t right_a[4] = {items[m][0].y, items[m][1].y, ~items[m][0].y, ~items[m][1].y};
                multiply_bits<2>(accumulators[c][m], left_a, left_b, accumulators[c][m]);
                multiply_bits<2>(accumulators[c][m], right_a, right_b, accumulators[c][m]);
              }
            }
          }
        }
#pragma unroll
        for (int i = 0; i < kTogether * kMatrices * 4; ++i) sums[i] = accumulators[i / 4 / kMatrices][i / 4 % kMatrices][i % 4];
        if (!__any_sync(kFullMask, (join<kOverlap>(sums) < 0) != kOverlap)) continue;
        const Place place{column, static_cast<int>(first - begin)};
        if constexpr (kEntering == Entering::kept) {
          queue_entering<kOverlap>(sums, place, queue, &n_queued, [&](int n) {
            keep_queued(pairs, plan, to, shared, group, begin, queue, n);
          });
        } else {
#pragma unroll
          for (int c = 0; c < kTogether; ++c) {
            count_entering<kOverlap, kMatrices>(sums, c * kMatrices, place, pairs.n_db - begin, counts);
          }
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

template <bool kOverlap, bool kVectors, Entering kEntering>
int launch_with(const Pairs& pairs, const CollectPlan& plan, const Collected& to, unsigned long long* found, Stream stream) {
  // Two blocks of a multiprocessor must have room.
  const bool three = chunks_of(pairs.n_bytes) <= 3;
  const size_t shared = LongShared::bytes(plan.group, pairs.n_bytes, three ? 3 : 2) + WalkShared::bytes(plan.group);
  auto* kernel = three ? collect_mma_long_kernel<kOverlap, kVectors, kEntering, 3>
                       : collect_mma_long_kernel<kOverlap, kVectors, kEntering, 2>;
  return launch(kernel, grid_of(plan.blocks), dim3(kCollectThreads), shared, stream, pairs, plan, to, found);
}

template <bool kOverlap, bool kVectors>
int launch_with(const Pairs& pairs, const CollectPlan& plan, const Collected& to, unsigned long long* found, Stream stream) {
  return found ? launch_with<kOverlap, kVectors, Entering::counted>(pairs, plan, to, found, stream)
               : launch_with<kOverlap, kVectors, Entering::kept>(pairs, plan, to, found, stream);
}

}  // namespace

int launch_mma_long(const Pairs& pairs, const CollectPlan& plan, const Collected& to, unsigned long long* found,
                    Stream stream) {
  const bool vectors = pairs.n_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(pairs.database) % 16 == 0;
  if (pairs.score == Score::overlap) {
    return vectors ? launch_with<true, true>(pairs, plan, to, found, stream)
                   : launch_with<true, false>(pairs, plan, to, found, stream);
  }
  return vectors ? launch_with<false, true>(pairs, plan, to, found, stream)
                 : launch_with<false, false>(pairs, plan, to, found, stream);
}

}  // namespace dshc::cuda
