// What the kernels that collect share on the device: drawing tickets, and keeping an item (collect.h).
#pragma once
#include "code_registers.h"
#include "collect.h"
#include "warp.h"

namespace dshc::cuda {

// A block's own words in shared memory, behind its queries.
struct WalkShared {
  int* bounds;                  // [group], of queries that do not exist 0: nothing enters
  unsigned long long* drawn;    // the ticket
  unsigned* due;                // a bit a query: its bound is looked at again after this piece

  static constexpr size_t bytes(int group) {
    return static_cast<size_t>(group) * sizeof(int) + sizeof(unsigned long long) + (group + 31) / 32 * sizeof(unsigned);
  }
  __device__ __forceinline__ WalkShared(void* at, int group)
      : bounds(static_cast<int*>(at)), drawn(reinterpret_cast<unsigned long long*>(bounds + group)),
        due(reinterpret_cast<unsigned*>(drawn + 1)) {}
};

// By a whole warp: the smallest value up to which count(value) comes to k items; n_values if there is none.
template <class Count>
__device__ __forceinline__ int value_of_kth(const CollectPlan& plan, Count count) {
  int64_t before = 0;
  for (int first = 0; first < plan.n_values; first += kWarp) {
    const int value = first + lane();
    const int64_t here = value < plan.n_values ? static_cast<int64_t>(count(value)) : 0;
    const int64_t upto = before + warp_sum_below(here) + here;
    const unsigned enough = __ballot_sync(kFullMask, upto >= plan.k);
    if (enough != 0) return first + __ffs(static_cast<int>(enough)) - 1;
    before = __shfl_sync(kFullMask, static_cast<long long>(upto), kWarp - 1);
  }
  return plan.n_values;
}

// By a whole warp: the smallest value at which k items are counted becomes the bound, for those of this value come later
// (collect.h).
__device__ inline void lower_bound(const CollectPlan& plan, const Collected& to, int64_t query) {
  const unsigned* seen = to.seen + query * plan.n_values;
  const int value = value_of_kth(plan, [&](int value) { return __ldcg(seen + value); });
  if (value == plan.n_values) return;
  __threadfence();  // what was counted is counted before the bound says so
  if (lane() == 0) atomicMin(to.bounds + query, value);
}

// The block's query `q`.
__device__ inline void keep(const Pairs& pairs, const CollectPlan& plan, const Collected& to, const WalkShared& shared,
                            int group, int q, int value, int64_t item) {
  const int64_t query = int64_t{group} * plan.group + q;
  if (item >= pairs.n_db) return;
  if (pairs.allowed && !(pairs.allowed[query * pairs.allowed_stride + item / 8] >> (item % 8) & 1)) return;
  const uint64_t key = static_cast<uint64_t>(value) << kValueShift | static_cast<uint64_t>(item);
  if (to.offsets) {
    const int64_t first = to.offsets[query], room = to.offsets[query + 1] - first;
    if (room > plan.sort_keys) return;  // the two passes will write them
    const unsigned long long place = atomicAdd(to.found + query, 1ull);
    if (place < static_cast<unsigned long long>(room)) to.keys[first + static_cast<int64_t>(place)] = key;
    return;
  }
  // The bound may have fallen since the tile was begun. An item of its very value may have a lower index than all counted.
  if (value > __ldcg(to.bounds + query)) return;
  const unsigned long long place = atomicAdd(to.found + query, 1ull);
  if (place < static_cast<unsigned long long>(plan.capacity)) {
    to.keys[query * plan.capacity + static_cast<int64_t>(place)] = key;
  }
  atomicAdd(to.seen + query * plan.n_values + value, 1u);
  const bool due = (static_cast<unsigned>(place) + 1) % static_cast<unsigned>(plan.count_every) == 0;
  if (due) atomicOr(shared.due + q / 32, 1u << q % 32);
}

// Where a block begins to go through n queries or columns of them: blocks that all began at the first would meet at its
// counters, and its bound could not fall before all of them had passed.
__device__ __forceinline__ int first_of(int n) { return static_cast<int>(blockIdx.x * 37 % static_cast<unsigned>(n)); }

// The first of the tickets' items, from tile to tile; `ticket` may be n_tickets.
__device__ __forceinline__ int64_t first_tile(const CollectPlan& plan, int64_t ticket) {
  return ticket < plan.n_small ? ticket : plan.n_small + (ticket - plan.n_small) * plan.tiles_per_ticket;
}

// Calls load(group) once for each group of queries this block comes to, then scan(group, begin, end) for every piece of the
// database that it draws; a piece is whole tiles, the last of which may reach beyond the database. All threads scan.
// A block begins at a group of its own and helps at the others' when that is done.
template <class Load, class Scan>
__device__ __forceinline__ void walk_tickets(const CollectPlan& plan, const Collected& to, const WalkShared& shared,
                                             Load load, Scan scan) {
  const bool moves = plan.fixed_bound < 0;
  const auto n_tickets = static_cast<unsigned long long>(plan.n_tickets);
  for (int visit = 0; visit < plan.n_groups; ++visit) {
    const int group = static_cast<int>((blockIdx.x + static_cast<unsigned>(visit)) % static_cast<unsigned>(plan.n_groups));
    for (bool loaded = false;; loaded = true) {
      __syncthreads();  // the bounds and the ticket of the piece before are read
      if (!loaded) {  // a look that costs less than coming for nothing
        if (threadIdx.x == 0) *shared.drawn = __ldcg(to.tickets + group);
        __syncthreads();
        if (*shared.drawn >= n_tickets) break;
      }
      for (int q = static_cast<int>(threadIdx.x); q < plan.group; q += kCollectThreads) {
        const int64_t query = int64_t{group} * plan.group + q;
        shared.bounds[q] = query >= plan.n_query ? 0 : (moves ? __ldcg(to.bounds + query) : plan.fixed_bound);
      }
      if (threadIdx.x < static_cast<unsigned>(plan.group + 31) / 32) shared.due[threadIdx.x] = 0;
      __syncthreads();
      if (threadIdx.x == 0) {
        // Bounds are read before the ticket is drawn, and it is drawn before anything is counted. That these are fences of
        // the whole device, and sequentially consistent ones, is what orders other threads' reads and counts with them.
        __threadfence();
        *shared.drawn = atomicAdd(to.tickets + group, 1ull);
        __threadfence();
      }
      __syncthreads();
      const unsigned long long ticket = *shared.drawn;
      if (ticket >= n_tickets) break;
      if (!loaded) load(group);
      if (static_cast<int64_t>(ticket) < plan.n_prefix && moves) {
        for (int q = static_cast<int>(threadIdx.x); q < plan.group; q += kCollectThreads) {
          const int64_t query = int64_t{group} * plan.group + q;
          if (query < plan.n_query) shared.bounds[q] = to.prefix_bounds[query];
        }
      }
      __syncthreads();
      scan(group, plan.first_item + first_tile(plan, static_cast<int64_t>(ticket)) * kTicketTile,
           plan.first_item + first_tile(plan, static_cast<int64_t>(ticket) + 1) * kTicketTile);
      if (!moves) continue;
      __syncthreads();  // all of the piece is counted
      for (int q = warp(); q < plan.group; q += kCollectThreads / kWarp) {
        if (shared.due[q / 32] >> q % 32 & 1) lower_bound(plan, to, int64_t{group} * plan.group + q);
      }
    }
  }
}

// The same without tickets, where nothing depends on the order and the bound stands still: every block takes an equal part.
template <class Load, class Scan>
__device__ __forceinline__ void walk_evenly(const CollectPlan& plan, const WalkShared& shared, Load load, Scan scan) {
  const int64_t n_pieces = plan.n_groups * plan.n_tickets;
  const int64_t end = n_pieces * (blockIdx.x + 1) / gridDim.x;
  int loaded = -1;
  for (int64_t piece = n_pieces * blockIdx.x / gridDim.x; piece < end; ++piece) {
    const int group = static_cast<int>(piece / plan.n_tickets);
    const int64_t ticket = piece % plan.n_tickets;
    __syncthreads();  // the piece before is scanned
    if (group != loaded) {
      for (int q = static_cast<int>(threadIdx.x); q < plan.group; q += kCollectThreads) {
        shared.bounds[q] = int64_t{group} * plan.group + q < plan.n_query ? plan.fixed_bound : 0;
      }
      load(group);
      loaded = group;
      __syncthreads();
    }
    scan(group, plan.first_item + first_tile(plan, ticket) * kTicketTile,
         plan.first_item + first_tile(plan, ticket + 1) * kTicketTile);
  }
}

}  // namespace dshc::cuda
