// What the two kernels that collect share on the device: drawing tickets, and keeping an item (collect.h).
#pragma once
#include "code_registers.h"
#include "collect.h"
#include "warp.h"

namespace dshc::cuda {

// The smallest value at which k items are counted becomes the bound: those of this value come later (collect.h).
__device__ inline void lower_bound(const CollectPlan& plan, const Collected& to, int64_t query) {
  const unsigned* seen = to.seen + query * plan.n_values;
  const int bound = __ldcg(to.bounds + query);
  int64_t sum = 0;
  for (int value = 0; value < bound; ++value) {
    sum += __ldcg(seen + value);
    if (sum < plan.k) continue;
    __threadfence();  // what was counted is counted before the bound says so
    atomicMin(to.bounds + query, value);
    return;
  }
}

__device__ inline void keep(const Pairs& pairs, const CollectPlan& plan, const Collected& to, int64_t query, int value,
                            int64_t item) {
  if (item >= pairs.n_db) return;
  if (pairs.allowed && !(pairs.allowed[query * pairs.allowed_stride + item / 8] >> (item % 8) & 1)) return;
  const unsigned long long place = atomicAdd(to.found + query, 1ull);
  const int64_t first = to.offsets ? to.offsets[query] : query * plan.capacity;
  const int64_t room = to.offsets ? to.offsets[query + 1] - first : plan.capacity;
  if (place < static_cast<unsigned long long>(room)) {
    to.keys[first + static_cast<int64_t>(place)] =
        static_cast<uint64_t>(value) << kValueShift | static_cast<uint64_t>(item);
  }
  if (to.offsets) return;
  atomicAdd(to.seen + query * plan.n_values + value, 1u);
  if ((static_cast<unsigned>(place) + 1) % static_cast<unsigned>(plan.count_every) == 0) lower_bound(plan, to, query);
}

// The first of the tickets' items, from tile to tile; `ticket` may be n_tickets.
__device__ __forceinline__ int64_t first_tile(const CollectPlan& plan, int64_t ticket) {
  return ticket < plan.n_small ? ticket : plan.n_small + (ticket - plan.n_small) * plan.tiles_per_ticket;
}

// Calls load(group) once for each group of queries this block comes to, then scan(group, item) for every tile it draws.
// `bounds` [plan.group] and `drawn` lie in shared memory; bounds of queries that do not exist are 0: nothing enters.
// A block begins at a group of its own and helps at the others' when that is done.
template <class Load, class Scan>
__device__ __forceinline__ void walk_tickets(const Pairs& pairs, const CollectPlan& plan, const Collected& to, int* bounds,
                                             unsigned long long* drawn, Load load, Scan scan) {
  const auto n_tickets = static_cast<unsigned long long>(plan.n_tickets);
  for (int64_t visit = 0; visit < plan.n_groups; ++visit) {
    const int64_t group = (blockIdx.x + visit) % plan.n_groups;
    for (bool loaded = false;; loaded = true) {
      __syncthreads();  // the bounds and the ticket of the piece before are read
      for (int q = static_cast<int>(threadIdx.x); q < plan.group; q += kCollectThreads) {
        const int64_t query = group * plan.group + q;
        const bool moves = plan.fixed_bound < 0;
        bounds[q] = query >= plan.n_query ? 0 : (moves ? __ldcg(to.bounds + query) : plan.fixed_bound);
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        unsigned long long ticket = __ldcg(to.tickets + group);
        if (ticket < n_tickets) {
          __threadfence();  // the bounds are read before the ticket is drawn, and it before anything is counted
          ticket = atomicAdd(to.tickets + group, 1ull);
          __threadfence();
        }
        *drawn = ticket;
      }
      __syncthreads();
      const unsigned long long ticket = *drawn;
      if (ticket >= n_tickets) break;
      if (!loaded) {
        load(group);
        __syncthreads();
      }
      const int64_t end = plan.first_item + first_tile(plan, static_cast<int64_t>(ticket) + 1) * kTicketTile;
      int64_t item = plan.first_item + first_tile(plan, static_cast<int64_t>(ticket)) * kTicketTile;
      for (; item < end && item < pairs.n_db; item += kTicketTile) scan(group, item);
    }
  }
}

}  // namespace dshc::cuda
