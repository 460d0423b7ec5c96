// The k nearest codes of real-valued outputs by (distance, index), for any k from 1 to n: a selection by digits of the
// distances, whose bits ascend with them, then a stable sort of what was selected.
//
// 1. The outputs as float32.
// 2. Three times: a histogram of the next 11 bits of the distances that agree with the digits known so far; a warp per query
//    finds the digit of the k-th. Distances are worked out anew in each pass: a code is 4 to 20 times as short as what would
//    have to be kept for it (a float of every pair), and comes from the second-level cache.
// 3. How many items of each shard lie below the k-th distance, and how many at it; sums over the shards are their places.
// 4. Items below are written in order of index, items at it (the lowest indices) behind them: those are in place.
// 5. The items below are sorted (sort_nearest.cu).
//
// Layout and limits: core/asymmetric_topk.h. Thread map: grid n_query * n_shards, shards fastest; tables of the query in shared
// memory, an item a thread (weighted_distance.h). Least possible: one pass; the other four are the price of any k without a
// limit. A call of many queries is cut into chunks, which bounds the workspace.
#include "../core/asymmetric_topk.h"

#include <type_traits>

#include "floats.h"
#include "nearest.h"
#include "warp.h"
#include "weighted_distance.h"

namespace dshc::cuda {
namespace {

constexpr int kWarps = kWeightedThreads / kWarp;
constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;  // of a selection; three are 33 bits, and distances have 31

NearestPlan plan_of(const AsymmetricPairs& pairs, int64_t k) {
  constexpr int64_t kBlocksPerMultiprocessor = 16;
  constexpr int64_t kSortBytes = int64_t{256} << 20;
  constexpr int64_t kMostItems = int64_t{1} << 30;  // a block counts in 32 bits
  const int64_t blocks = kBlocksPerMultiprocessor * multiprocessors(), most = kSortBytes / (12 * k);
  NearestPlan plan{};
  plan.k = k;
  plan.chunk = blocks < most ? blocks : most;
  if (plan.chunk > pairs.n_query) plan.chunk = pairs.n_query;
  if (plan.chunk < 1) plan.chunk = 1;
  plan.shard_items = divide_up(divide_up(pairs.n_db, divide_up(blocks, plan.chunk)), kWeightedThreads) * kWeightedThreads;
  if (plan.shard_items > kMostItems) plan.shard_items = kMostItems;
  plan.n_shards = divide_up(pairs.n_db, plan.shard_items);
  return plan;
}

NearestWorkspace lay_out(const AsymmetricPairs& pairs, const NearestPlan& plan, void* memory) {
  const auto begin = reinterpret_cast<uintptr_t>(memory);  // null where only the size is asked for
  uintptr_t at = begin;
  const auto take = [&](int64_t bytes) {
    const uintptr_t here = at;
    at += static_cast<uintptr_t>(divide_up(bytes, 16) * 16);
    return here;
  };
  NearestWorkspace work{};
  work.selections = reinterpret_cast<NearestSelection*>(take(plan.chunk * static_cast<int64_t>(sizeof(NearestSelection))));
  work.histograms = reinterpret_cast<Counter*>(take(plan.chunk * kDigits * static_cast<int64_t>(sizeof(Counter))));
  work.places = reinterpret_cast<int64_t*>(take(plan.chunk * 2 * plan.n_shards * 8));
  work.indices = reinterpret_cast<int64_t*>(take(plan.chunk * plan.k * 8));
  work.bits = reinterpret_cast<uint32_t*>(take(plan.chunk * plan.k * 4));
  work.outputs = reinterpret_cast<float*>(take(plan.chunk * pairs.n_bits * 4));
  work.n_bytes = static_cast<int64_t>(at - begin);
  return work;
}

template <class T>
__global__ void __launch_bounds__(kWeightedThreads) convert_kernel(const T* __restrict__ from, int64_t n,
                                                                   float* __restrict__ to) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWeightedThreads + threadIdx.x;
  if (i < n) to[i] = static_cast<float>(to_real(from[i]));
}

// What a block of a pass works on.
struct Part {
  int64_t in_chunk, shard, begin, end;  // the query's number in the chunk, the shard's, its items
  const uint8_t* allowed;
};

__device__ __forceinline__ Part part_of_block(const AsymmetricPairs& pairs, const NearestPlan& plan) {
  Part part;
  part.in_chunk = blockIdx.x / plan.n_shards;
  part.shard = blockIdx.x % plan.n_shards;
  part.begin = part.shard * plan.shard_items;
  part.end = part.begin + plan.shard_items < pairs.n_db ? part.begin + plan.shard_items : pairs.n_db;
  part.allowed = pairs.allowed ? pairs.allowed + (plan.first_query + part.in_chunk) * pairs.allowed_stride : nullptr;
  return part;
}

__device__ __forceinline__ bool may_answer(const Part& part, int64_t item) {
  return item < part.end && (!part.allowed || (part.allowed[item / 8] >> (item % 8) & 1));
}

template <class Word, bool kNibbles>
__global__ void __launch_bounds__(kWeightedThreads) digit_kernel(AsymmetricPairs pairs, NearestPlan plan,
                                                                 NearestWorkspace work, int shift) {
  auto* tables = dynamic_shared<float>();
  auto* counts = reinterpret_cast<unsigned*>(tables + pairs.n_bytes * (kNibbles ? 32 : 16));  // [kDigits]
  const Part part = part_of_block(pairs, plan);
  make_tables<kNibbles>(pairs, work.outputs + part.in_chunk * pairs.n_bits, tables);
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kWeightedThreads) counts[i] = 0;
  const uint32_t known = work.selections[part.in_chunk].known, bits = work.selections[part.in_chunk].bits;
  __syncthreads();
  for (int64_t item = part.begin + threadIdx.x; item < part.end; item += kWeightedThreads) {
    if (!may_answer(part, item)) continue;
    const uint32_t mine = distance_bits<Word, kNibbles>(pairs, tables, item);
    if ((mine & known) == bits) atomicAdd(counts + (mine >> shift & (kDigits - 1)), 1u);
  }
  __syncthreads();
  Counter* histogram = work.histograms + part.in_chunk * kDigits;
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kWeightedThreads) {
    if (counts[i] != 0) atomicAdd(histogram + i, static_cast<Counter>(counts[i]));
  }
}

// A warp per query: the next digit of its k-th distance. Leaves the histogram zero.
__global__ void __launch_bounds__(kWeightedThreads) choose_kernel(NearestPlan plan, NearestWorkspace work, int shift) {
  const int64_t query = static_cast<int64_t>(blockIdx.x) * kWarps + warp();
  if (query >= plan.n_queries) return;  // whole warps
  Counter* histogram = work.histograms + query * kDigits;
  const NearestSelection before = work.selections[query];
  const int64_t left = plan.k - before.n_below;
  int64_t seen = 0, below = 0;
  int digit = -1;
  for (int first = 0; first < kDigits; first += kWarp) {
    const auto count = static_cast<int64_t>(histogram[first + lane()]);
    histogram[first + lane()] = 0;
    const int64_t mine = seen + warp_sum_below(count);
    const unsigned enough = __ballot_sync(kFullMask, mine + count >= left);
    if (digit < 0 && enough != 0) {
      const int owner = __ffs(static_cast<int>(enough)) - 1;
      digit = first + owner;
      below = __shfl_sync(kFullMask, static_cast<long long>(mine), owner);
    }
    seen = __shfl_sync(kFullMask, static_cast<long long>(mine + count), kWarp - 1);
  }
  if (lane() != 0 || before.bits == kBeyondAll) return;
  if (digit < 0) {  // fewer than k may be answered: all of them are
    work.selections[query] = {kBeyondAll, ~0u, seen};
  } else {
    work.selections[query] = {before.bits | static_cast<uint32_t>(digit) << shift,
                              before.known | static_cast<uint32_t>(kDigits - 1) << shift, before.n_below + below};
  }
}

template <class Word, bool kNibbles>
__global__ void __launch_bounds__(kWeightedThreads) count_kernel(AsymmetricPairs pairs, NearestPlan plan,
                                                                 NearestWorkspace work) {
  auto* tables = dynamic_shared<float>();
  auto* scratch = reinterpret_cast<int*>(tables + pairs.n_bytes * (kNibbles ? 32 : 16));  // [kWarps]
  const Part part = part_of_block(pairs, plan);
  make_tables<kNibbles>(pairs, work.outputs + part.in_chunk * pairs.n_bits, tables);
  const uint32_t kth = work.selections[part.in_chunk].bits;
  __syncthreads();
  int below = 0, at = 0;
  for (int64_t item = part.begin + threadIdx.x; item < part.end; item += kWeightedThreads) {
    if (!may_answer(part, item)) continue;
    const uint32_t mine = distance_bits<Word, kNibbles>(pairs, tables, item);
    below += mine < kth;
    at += mine == kth;
  }
  below = block_reduce(below, Sum{}, scratch);
  at = block_reduce(at, Sum{}, scratch);
  if (threadIdx.x != 0) return;
  int64_t* places = work.places + part.in_chunk * 2 * plan.n_shards + part.shard;
  places[0] = below;
  places[plan.n_shards] = at;
}

// A warp per query turns the counts of its shards into places.
__global__ void __launch_bounds__(kWeightedThreads) place_kernel(NearestPlan plan, NearestWorkspace work) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp();
  if (row >= 2 * plan.n_queries) return;  // whole warps
  int64_t* places = work.places + row * plan.n_shards;
  int64_t before = 0;
  for (int64_t first = 0; first < plan.n_shards; first += kWarp) {
    const bool there = first + lane() < plan.n_shards;
    const int64_t count = there ? places[first + lane()] : 0;
    const int64_t place = before + warp_sum_below(count);
    if (there) places[first + lane()] = place;
    before = __shfl_sync(kFullMask, static_cast<long long>(place + count), kWarp - 1);
  }
}

template <class Word, bool kNibbles>
__global__ void __launch_bounds__(kWeightedThreads) write_kernel(AsymmetricPairs pairs, NearestPlan plan, NearestWorkspace work,
                                                                 float* __restrict__ distances,
                                                                 int64_t* __restrict__ indices) {
  auto* tables = dynamic_shared<float>();
  auto* counts = reinterpret_cast<unsigned*>(tables + pairs.n_bytes * (kNibbles ? 32 : 16));  // [2, kWarps]
  const Part part = part_of_block(pairs, plan);
  make_tables<kNibbles>(pairs, work.outputs + part.in_chunk * pairs.n_bits, tables);
  const NearestSelection selection = work.selections[part.in_chunk];
  const int64_t* places = work.places + part.in_chunk * 2 * plan.n_shards + part.shard;
  int64_t below_place = places[0], at_place = selection.n_below + places[plan.n_shards];
  const int64_t first_place = (plan.first_query + part.in_chunk) * plan.k;
  __syncthreads();
  for (int64_t tile = part.begin; tile < part.end; tile += kWeightedThreads) {
    const int64_t item = tile + threadIdx.x;
    const uint32_t mine = may_answer(part, item) ? distance_bits<Word, kNibbles>(pairs, tables, item) : kBeyondAll;
    const bool below = mine < selection.bits, at = mine == selection.bits && mine != kBeyondAll;
    if (!__syncthreads_or(below || at)) continue;
    const unsigned below_lanes = __ballot_sync(kFullMask, below), at_lanes = __ballot_sync(kFullMask, at);
    if (lane() == 0) {
      counts[warp()] = static_cast<unsigned>(__popc(below_lanes));
      counts[kWarps + warp()] = static_cast<unsigned>(__popc(at_lanes));
    }
    __syncthreads();
    int64_t my_below = below_place + __popc(below_lanes & lanes_below()), my_at = at_place + __popc(at_lanes & lanes_below());
    for (int w = 0; w < kWarps; ++w) {
      my_below += w < warp() ? counts[w] : 0;
      my_at += w < warp() ? counts[kWarps + w] : 0;
      below_place += counts[w];
      at_place += counts[kWarps + w];
    }
    const int64_t place = below ? my_below : my_at;
    if ((below || at) && place < plan.k) {
      float distance;
      memcpy(&distance, &mine, sizeof distance);
      distances[first_place + place] = distance;
      indices[first_place + place] = item;
    }
    __syncthreads();  // the counts are read
  }
}

template <class Word, bool kNibbles>
int search_chunk(const AsymmetricPairs& pairs, const NearestPlan& plan, const NearestWorkspace& work, float* distances,
                 int64_t* indices, Stream stream) {
  const size_t tables = table_shared_bytes(pairs.n_bytes);
  const dim3 parts = grid_of(plan.n_queries * plan.n_shards), by_warp = grid_of(divide_up(plan.n_queries, kWarps));
  const dim3 block(kWeightedThreads);
  for (int shift = 2 * kDigitBits; shift >= 0; shift -= kDigitBits) {
    if (const int status = launch(digit_kernel<Word, kNibbles>, parts, block, tables + kDigits * sizeof(unsigned), stream,
                                  pairs, plan, work, shift)) {
      return status;
    }
    if (const int status = launch(choose_kernel, by_warp, block, 0, stream, plan, work, shift)) return status;
  }
  if (const int status = launch(count_kernel<Word, kNibbles>, parts, block, tables + kWarps * sizeof(int), stream, pairs, plan,
                                work)) {
    return status;
  }
  if (const int status = launch(place_kernel, grid_of(divide_up(2 * plan.n_queries, kWarps)), block, 0, stream, plan, work)) {
    return status;
  }
  if (const int status = launch(write_kernel<Word, kNibbles>, parts, block, tables + 2 * kWarps * sizeof(unsigned), stream,
                                pairs, plan, work, distances, indices)) {
    return status;
  }
  return sort_nearest(plan, work, distances, indices, stream);
}

}  // namespace

int64_t asymmetric_topk_workspace_bytes(const AsymmetricPairs& pairs, int64_t k) {
  return lay_out(pairs, plan_of(pairs, k), nullptr).n_bytes;
}

int asymmetric_topk(const AsymmetricPairs& pairs, int64_t k, float* distances, int64_t* indices, void* workspace,
                    void* stream) {
  if (pairs.n_query == 0) return 0;
  NearestPlan plan = plan_of(pairs, k);
  const NearestWorkspace work = lay_out(pairs, plan, workspace);
  for (plan.first_query = 0; plan.first_query < pairs.n_query; plan.first_query += plan.chunk) {
    plan.n_queries = plan.first_query + plan.chunk < pairs.n_query ? plan.chunk : pairs.n_query - plan.first_query;
    // Selections and histograms lie beside each other.
    const int64_t zeros = reinterpret_cast<unsigned char*>(work.places) - reinterpret_cast<unsigned char*>(work.selections);
    if (const int status = fill_zero(work.selections, zeros, stream)) return status;
    int status = with_floats(pairs.dtype, pairs.outputs, [&](auto* outputs) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(outputs)>>;
      const int64_t n = plan.n_queries * pairs.n_bits;
      return launch(convert_kernel<T>, grid_of(divide_up(n, kWeightedThreads)), dim3(kWeightedThreads), 0, stream,
                    outputs + plan.first_query * pairs.n_bits, n, work.outputs);
    });
    if (status) return status;
    status = with_weighted_word(pairs, [&](auto word, auto nibbles) {
      return search_chunk<decltype(word), decltype(nibbles)::value>(pairs, plan, work, distances, indices, stream);
    });
    if (status) return status;
  }
  return 0;
}

}  // namespace dshc::cuda
