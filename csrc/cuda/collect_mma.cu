// Collects (collect.h) on the tensor cores: a block's queries times 16 items at a time, as single-bit matrix products.
//
// The tensor cores count ANDs (mma.h). XOR becomes AND by writing code and complement one after the other,
//     popcount(a ^ q) = popcount([a, ~a] AND [~q, q]),
// which is 128 columns for codes up to 64 bits, 256 up to 128, twice 256 beyond; overlap is AND by itself. The accumulators
// begin at minus the query's bound, so that what comes out is negative where an item enters: nothing is subtracted or
// compared, signs are joined by three-input ORs (ANDs for overlap, which counts upwards) and one branch asks about 512 pairs.
//
// Layout: the queries' operands in shared memory, in the order in which lanes take them (one read without conflicts, no two
// lanes share a word), their bounds beside them. Thread map: a warp holds 64 items in registers, as four matrices of 16 rows
// (beyond 128 bits 32, as two), and goes through the queries 8 columns at a time; lane 4 g + t sees rows g, g + 8 and
// columns 2 t, 2 t + 1.
//
// Floor at 64 bits: one mma of 128 columns for 128 pairs, all of its products of use. Beside the four of 512 pairs a warp
// executes 2 shared reads, 8 three-input ORs, a comparison, a branch and a wait, and as compiled for 9.0 some 15 moves, because
// accumulators come in fours that a product overwrites: 38 instructions, a 13th of one per pair and lane. Reading the
// database costs eight loads of 4 bytes per lane for each 32 columns of 8 queries.
// Why not 8-bit products of +-1: as fast at 64 bits on paper, but codes would have to be spread out to bytes first.
// Why not wgmma: it reads shared memory through descriptors, which only a GPU can check; this is open until it was tried.
// Limits: codes of at most 32 bytes; compute capability 8.0.
#include "collect_walk.h"
#include "mma.h"

namespace dshc::cuda {
namespace {

constexpr int kRows = 16, kColumns = 8;

// How a code becomes columns: kWidth words, in steps of one mma, of which a lane has kLaneWords each.
template <int kWords, bool kOverlap>
struct Columns {
  static constexpr int kWidth = kOverlap ? kWords : 2 * kWords;
  static constexpr int kLaneWords = kWidth <= 4 ? 1 : 2;
  static constexpr int kSteps = kWidth <= 8 ? 1 : kWidth / 8;

  // Word `at` of the columns of a row of codes; `whole`: codes may be read word by word.
  static __device__ __forceinline__ uint32_t word(const uint8_t* codes, int n_bytes, int64_t row, int at, bool whole,
                                                  bool is_query) {
    if (at >= kWidth) return 0;
    const uint32_t word = load_word(codes + row * n_bytes, at % kWords, n_bytes, whole);
    return !kOverlap && (at >= kWords) != is_query ? ~word : word;
  }

  // The place in a row's columns of the i-th word of lane 4 g + t.
  static __device__ __forceinline__ int place(int i, int t) { return i / kLaneWords * 8 + i % kLaneWords * 4 + t; }
};

template <int kWords, bool kOverlap>
__global__ void __launch_bounds__(kCollectThreads, kMmaBlocks) collect_mma_kernel(Pairs pairs, CollectPlan plan, Collected to) {
  using Of = Columns<kWords, kOverlap>;
  constexpr int kLaneWords = Of::kLaneWords, kSteps = Of::kSteps, kOperand = kLaneWords * kSteps;
  constexpr int kMatrices = kSteps == 1 ? 4 : 2;  // more would need more registers than there are
  constexpr int kWarpItems = kMatrices * kRows, kStep = kWarpItems * (kCollectThreads / kWarp);
  static_assert(kTicketTile % kStep == 0, "a tile is whole steps");
  using Operand = Code<kOperand>;  // a lane's words of a query
  auto* operands = dynamic_shared<Operand>();  // [group / kColumns, kWarp]
  const WalkShared shared(operands + plan.group / kColumns * kWarp, plan.group);
  const int g = lane() / 4, t = lane() % 4;
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);
  // What accumulators begin at: hamming counts up to the bound, overlap from above it.
  const auto begin = [&](int bound) { return kOverlap ? bound - 8 * pairs.n_bytes - 1 : -bound; };

  const auto load = [&](int group) {
    for (int at = static_cast<int>(threadIdx.x); at < plan.group / kColumns * kWarp; at += kCollectThreads) {
      const int64_t query = int64_t{group} * plan.group + at / kWarp * kColumns + at % kWarp / 4;
      Operand operand{};
      for (int i = 0; i < kOperand && query < plan.n_query; ++i) {
        operand.words[i] = Of::word(pairs.queries, pairs.n_bytes, query, Of::place(i, at % 4), false, true);
      }
      operands[at] = operand;
    }
  };

  const auto scan = [&](int group, int64_t tile) {
    const int64_t there = plan.n_query - int64_t{group} * plan.group;
    const int n_here = there < plan.group ? static_cast<int>(there) : plan.group;
    for (int64_t first = tile + warp() * kWarpItems; first < tile + kTicketTile && first < pairs.n_db; first += kStep) {
      uint32_t items[kMatrices][kSteps][2 * kLaneWords];
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int64_t item = first + m * kRows + half * 8 + g;
#pragma unroll
          for (int i = 0; i < kOperand; ++i) {
            uint32_t word = 0;
            if (item < pairs.n_db) word = Of::word(pairs.database, pairs.n_bytes, item, Of::place(i, t), whole, false);
            items[m][i / kLaneWords][i % kLaneWords * 2 + half] = word;
          }
        }
      }
      __syncwarp();
      const int n_columns = (n_here + kColumns - 1) / kColumns;
      for (int nth = 0, eight = first_of(n_columns); nth < n_columns; ++nth, eight = eight + 1 < n_columns ? eight + 1 : 0) {
        const int column = eight * kColumns;
        const Operand operand = operands[column / kColumns * kWarp + lane()];
        const int2 two = *reinterpret_cast<const int2*>(shared.bounds + column + 2 * t);
        const int start[4] = {begin(two.x), begin(two.y), begin(two.x), begin(two.y)};
        int sums[kMatrices][4];
#pragma unroll
        for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
          for (int step = 0; step < kSteps; ++step) {
            uint32_t words[kLaneWords];
#pragma unroll
            for (int w = 0; w < kLaneWords; ++w) words[w] = operand.words[step * kLaneWords + w];
            if (step == 0) multiply_bits<kLaneWords>(sums[m], items[m][step], words, start);
            else multiply_bits<kLaneWords>(sums[m], items[m][step], words, sums[m]);
          }
        }
        int any = kOverlap ? -1 : 0;
#pragma unroll
        for (int i = 0; i < 4 * kMatrices; ++i) any = kOverlap ? any & sums[i / 4][i % 4] : any | sums[i / 4][i % 4];
        if ((any < 0) != kOverlap) {
          unsigned enters = 0;
#pragma unroll
          for (int i = 0; i < 4 * kMatrices; ++i) enters |= ((sums[i / 4][i % 4] < 0) != kOverlap ? 1u : 0u) << i;
          for (; enters != 0; enters &= enters - 1) {
            const int which = __ffs(static_cast<int>(enters)) - 1;
            int sum = 0;
#pragma unroll
            for (int i = 0; i < 4 * kMatrices; ++i) sum = i == which ? sums[i / 4][i % 4] : sum;
            const int bound = which % 2 ? two.y : two.x, count = sum - begin(bound);
            keep(pairs, plan, to, shared, group, column + 2 * t + which % 2,
                 kOverlap ? 8 * pairs.n_bytes - count : count, first + which / 4 * kRows + which % 4 / 2 * 8 + g);
          }
        }
        __syncwarp();  // the next product is the whole warp's
      }
    }
  };
  walk_tickets(pairs, plan, to, shared, load, scan);
}

}  // namespace

int collect_mma(const Pairs& pairs, const CollectPlan& plan, const Collected& to, Stream stream) {
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    constexpr int kWords = decltype(words)::value;
    const auto launch_with = [&](auto* kernel, int operand_words) {
      const size_t operands = static_cast<size_t>(plan.group / kColumns * kWarp * operand_words) * sizeof(uint32_t);
      const size_t shared = operands + WalkShared::bytes(plan.group);
      return launch(kernel, grid_of(plan.blocks), dim3(kCollectThreads), shared, stream, pairs, plan, to);
    };
    using Overlap = Columns<kWords, true>;
    using Hamming = Columns<kWords, false>;
    if (pairs.score == Score::overlap) {
      return launch_with(collect_mma_kernel<kWords, true>, Overlap::kLaneWords * Overlap::kSteps);
    }
    return launch_with(collect_mma_kernel<kWords, false>, Hamming::kLaneWords * Hamming::kSteps);
  });
}

}  // namespace dshc::cuda
