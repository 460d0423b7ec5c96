// Collects (collect.h) by population counts: every pair's rank value against its query's bound.
//
// Layout: codes row by row; a block's queries, up to 256, in shared memory as 32-bit words, their bounds beside them. Thread
// map: a thread holds 8 items in registers (4 of 128 bits or not read as vectors, 2 of 256) and goes through the queries,
// which all threads read at once: a broadcast. Rank values are only looked at as signs of (count - bound), joined by OR over a thread's items, so
// that one branch serves them all; which item it was is asked where the sign is set.
//
// Floor at 64 bits and 16 population counts a clock and multiprocessor: 2 a pair, so 8 pairs. Beside them a pair costs 2
// logic operations, one three-input addition and half a logic operation (3.5 of 64 a clock), and an eighth of 2 shared
// reads, a comparison, a branch and the loop. With few queries the floor is reading: 8 bytes per item, by vectors of 16; a
// multiprocessor has up to 64 KiB of them in flight. Per piece of 2048 items and more: one ticket, the bounds, 3 barriers.
//
// Why not a list in registers and no bound in memory: a list bounds k, and each block would find its own k best: blocks
// times k candidates. Why not two passes (histogram, then collect): with one query the second pass reads everything again.
// Limits: codes of at most 32 bytes. Lengths that are no power of two, or arrays that do not begin at a multiple of 16 bytes,
// are read by words, and by single bytes where not even those fit.
#include "collect_walk.h"

namespace dshc::cuda {
namespace {

// On a multiprocessor at least; before 9.0 the compiler needs more registers for the same.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBlocks = kPopcBlocks - 1;
#else
constexpr int kBlocks = kPopcBlocks;
#endif

// Fewer where single bytes are loaded, whose addresses need registers.
template <int kWords, bool kVectors>
constexpr int kItemsOfThread = kWords == 8 ? 2 : (kWords == 4 || !kVectors ? 4 : 8);

template <int kWords, bool kOverlap>
__device__ __forceinline__ int count_pair(const Code<kWords>& a, const Code<kWords>& b) {
  int count = 0;
#pragma unroll
  for (int w = 0; w < kWords; ++w) count += __popc(kOverlap ? a.words[w] & b.words[w] : a.words[w] ^ b.words[w]);
  return count;
}

template <int kWords, bool kOverlap, bool kVectors>
__global__ void __launch_bounds__(kCollectThreads, kVectors ? kBlocks : kPopcBlocks - 1)
    collect_popc_kernel(Pairs pairs, CollectPlan plan, Collected to) {
  constexpr int kItems = kItemsOfThread<kWords, kVectors>, kStep = kItems * kCollectThreads;
  static_assert(kTicketTile % kStep == 0, "a tile is whole steps");
  auto* queries = dynamic_shared<Code<kWords>>();
  const WalkShared shared(queries + plan.group, plan.group);
  const int n_bits = 8 * pairs.n_bytes;
  const bool whole = has_whole_words(pairs.database, pairs.n_bytes);
  const auto queries_of = [&](int group) {
    const int64_t there = plan.n_query - int64_t{group} * plan.group;
    return there < plan.group ? static_cast<int>(there) : plan.group;
  };
  const auto load = [&](int group) {
    for (int q = static_cast<int>(threadIdx.x); q < queries_of(group); q += kCollectThreads) {
      queries[q] = load_code<kWords>(pairs.queries + (int64_t{group} * plan.group + q) * pairs.n_bytes, pairs.n_bytes, false);
    }
  };
  const auto scan = [&](int group, int64_t begin, int64_t end) {
    const int n_here = queries_of(group);
    const int n_piece = static_cast<int>((end < pairs.n_db ? end : pairs.n_db) - begin);
#pragma unroll 1
    for (int first = 0; first < n_piece; first += kStep) {
      ThreadCodes<kWords, kItems, kCollectThreads, kVectors> items;
      items.load(pairs.database + (begin + first) * pairs.n_bytes, pairs.n_bytes, whole, n_piece - first);
#pragma unroll 1
      for (int nth = 0, q = first_of(n_here); nth < n_here; ++nth, q = q + 1 < n_here ? q + 1 : 0) {
        const Code<kWords> query = queries[q];
        const int bound = shared.bounds[q], most = kOverlap ? n_bits - bound : bound;
        int beyond[kItems], any = 0;  // negative: the item enters
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const int count = count_pair<kWords, kOverlap>(query, items.codes[i]);
          beyond[i] = kOverlap ? most - count : count - most;
          any |= beyond[i];
        }
        if (any >= 0) continue;
        unsigned enters = 0;
#pragma unroll
        for (int i = 0; i < kItems; ++i) enters |= (beyond[i] < 0 ? 1u : 0u) << i;
        for (; enters != 0; enters &= enters - 1) {
          const int which = __ffs(static_cast<int>(enters)) - 1;
          int value = 0;
#pragma unroll
          for (int i = 0; i < kItems; ++i) value = i == which ? beyond[i] : value;
          keep(pairs, plan, to, shared, group, q, value + bound, begin + first + items.item_of(which));
        }
      }
    }
  };
  walk_tickets(plan, to, shared, load, scan);
}

}  // namespace

int collect_popc(const Pairs& pairs, const CollectPlan& plan, const Collected& to, Stream stream) {
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    constexpr int kWords = decltype(words)::value;
    const size_t shared = static_cast<size_t>(plan.group) * sizeof(Code<kWords>) + WalkShared::bytes(plan.group);
    const bool overlap = pairs.score == Score::overlap;
    auto* kernel = overlap ? collect_popc_kernel<kWords, true, false> : collect_popc_kernel<kWords, false, false>;
    if (reads_vectors(pairs.database, pairs.n_bytes)) {
      kernel = overlap ? collect_popc_kernel<kWords, true, true> : collect_popc_kernel<kWords, false, true>;
    }
    return launch(kernel, grid_of(plan.blocks), dim3(kCollectThreads), shared, stream, pairs, plan, to);
  });
}

}  // namespace dshc::cuda
