// Where threads meet: barriers of a block, operations of a warp. The last one to arrive works out everybody's result and
// wakes the others; who then goes on first is the scheduler's choice.
#include "block.h"

namespace dshc::simt {
namespace {

const char* name_of(WarpOp kind) {
  switch (kind) {
    case WarpOp::sync: return "__syncwarp";
    case WarpOp::shuffle: return "__shfl_sync";
    case WarpOp::shuffle_up: return "__shfl_up_sync";
    case WarpOp::shuffle_down: return "__shfl_down_sync";
    case WarpOp::shuffle_xor: return "__shfl_xor_sync";
    case WarpOp::ballot: return "__ballot_sync";
    case WarpOp::any: return "__any_sync";
    case WarpOp::all: return "__all_sync";
    case WarpOp::match_any: return "__match_any_sync";
  }
  return "a warp operation";
}

bool same_place(Where a, Where b) { return a.line == b.line && a.file == b.file; }

// The lane a shuffle reads from.
int source_lane(const LaneOperation& op, int lane) {
  const int first = lane & ~(op.width - 1), last = first + op.width - 1;
  int source = lane;
  switch (op.kind) {
    case WarpOp::shuffle: return first + (op.argument & (op.width - 1));
    case WarpOp::shuffle_up: source = lane - op.argument; break;
    case WarpOp::shuffle_down: source = lane + op.argument; break;
    case WarpOp::shuffle_xor: source = lane ^ op.argument; break;
    default: break;
  }
  return source < first || source > last ? lane : source;
}

uint64_t result_for(const Thread& thread, const Warp& warp, int lane) {
  const LaneOperation& op = warp.lanes[lane];
  uint64_t result = 0;
  switch (op.kind) {
    case WarpOp::sync: return 0;
    case WarpOp::shuffle:
    case WarpOp::shuffle_up:
    case WarpOp::shuffle_down:
    case WarpOp::shuffle_xor: {
      const int source = source_lane(op, lane);
      if (!(op.mask >> source & 1)) {
        fail_at(thread, op.where, "%s: lane %d reads lane %d, which is not in the mask 0x%08X", name_of(op.kind), lane,
                source, op.mask);
      }
      return warp.lanes[source].value;
    }
    case WarpOp::ballot:
    case WarpOp::match_any:
      for (int other = 0; other < kWarp; ++other) {
        if (!(op.mask >> other & 1)) continue;
        const uint64_t value = warp.lanes[other].value;
        if (op.kind == WarpOp::ballot ? value != 0 : value == op.value) result |= uint64_t{1} << other;
      }
      return result;
    case WarpOp::any:
    case WarpOp::all:
      result = op.kind == WarpOp::all;
      for (int other = 0; other < kWarp; ++other) {
        if (!(op.mask >> other & 1)) continue;
        if (op.kind == WarpOp::any) result |= warp.lanes[other].value;
        else result &= warp.lanes[other].value;
      }
      return result;
  }
  return result;
}

}  // namespace

int barrier(Barrier kind, bool predicate, Where where) {
  Thread& self = current();
  Block& block = *self.block;
  if (block.n_done != 0) {
    fail_at(self, where, "waits at a barrier that %d of the block's %d threads ended without reaching", block.n_done,
            static_cast<int>(block.threads.size()));
  }
  if (block.n_arrived == 0) {
    block.barrier_kind = kind;
    block.barrier_where = where;
  } else if (kind != block.barrier_kind || !same_place(where, block.barrier_where)) {
    fail_at(self, where, "waits at another barrier than other threads of its block: they are at %s:%d",
            block.barrier_where.file, block.barrier_where.line);
  }
  block.n_true += predicate;
  if (++block.n_arrived < static_cast<int>(block.threads.size())) {
    wait(State::at_barrier, where);
    return block.barrier_result;  // nobody can complete the next barrier before this thread reaches it
  }
  const int n = block.n_arrived;
  block.barrier_result = kind == Barrier::any   ? block.n_true != 0
                         : kind == Barrier::all ? block.n_true == n
                                                : block.n_true;
  block.n_arrived = block.n_true = 0;
  for (Thread& thread : block.threads) thread.state = State::running;
  block.ready.reset(n, true);
  const int result = block.barrier_result;
  barrier_passed();
  offer_place(false);
  return result;
}

uint64_t warp_operation(WarpOp kind, unsigned mask, uint64_t value, int argument, int width, Where where) {
  Thread& self = current();
  Warp& warp = self.block->warp_of(self);
  const int lane = self.number % kWarp;
  if (!(mask >> lane & 1)) fail_at(self, where, "%s: lane %d is not in its own mask 0x%08X", name_of(kind), lane, mask);
  if (mask & warp.done) {
    fail_at(self, where, "%s: mask 0x%08X names dead lanes 0x%08X, which ended or never were", name_of(kind), mask,
            mask & warp.done);
  }
  const bool is_shuffle = kind >= WarpOp::shuffle && kind <= WarpOp::shuffle_xor;
  if (is_shuffle && (width < 1 || width > kWarp || (width & (width - 1)) != 0)) {
    fail_at(self, where, "%s: width must be a power of two up to 32, got %d", name_of(kind), width);
  }
  if (const unsigned met = warp.waiting & mask) {  // all of these agree, so that one stands for them
    const LaneOperation& op = warp.lanes[__builtin_ctz(met)];
    if (op.kind != kind || op.mask != mask || !same_place(op.where, where)) {
      fail_at(self, where, "%s with mask 0x%08X meets lane %d in %s at %s:%d with mask 0x%08X", name_of(kind), mask,
              __builtin_ctz(met), name_of(op.kind), op.where.file, op.where.line, op.mask);
    }
  }
  warp.lanes[lane] = {kind, mask, argument, width, where, value, 0};
  warp.waiting |= 1u << lane;
  if ((warp.waiting & mask) != mask) {
    wait(State::in_warp_operation, where);
    return warp.lanes[lane].result;
  }
  Thread* first_lane = &self - lane;
  for (int other = 0; other < kWarp; ++other) {
    if (mask >> other & 1) warp.lanes[other].result = result_for(first_lane[other], warp, other);
  }
  warp.waiting &= ~mask;
  for (int other = 0; other < kWarp; ++other) {
    if (mask >> other & 1) self.block->wake(first_lane[other]);
  }
  offer_place(false);
  return warp.lanes[lane].result;
}

void check_not_awaited(const Thread& thread) {
  Block& block = *thread.block;
  const Warp& warp = block.warp_of(thread);
  const int lane = thread.number % kWarp;
  for (int other = 0; other < kWarp; ++other) {
    if ((warp.waiting >> other & 1) && (warp.lanes[other].mask >> lane & 1)) {
      const LaneOperation& op = warp.lanes[other];
      fail_at(thread, op.where, "ends, but lane %d waits for it in %s with mask 0x%08X (a dead lane)", other,
              name_of(op.kind), op.mask);
    }
  }
  if (block.n_arrived != 0) {
    fail_at(thread, block.barrier_where, "ends, but %d threads of its block wait for it at this barrier",
            block.n_arrived);
  }
}

void fail_deadlock(Block& block) {
  for (const Thread& thread : block.threads) {
    if (thread.state != State::in_warp_operation) continue;
    const Warp& warp = block.warp_of(thread);
    const LaneOperation& op = warp.lanes[thread.number % kWarp];
    fail_at(thread, thread.where, "deadlock: %s waits for lanes 0x%08X of its mask 0x%08X, which do not come (%d threads "
            "of the block are at a barrier)", name_of(op.kind), op.mask & ~warp.waiting, op.mask, block.n_arrived);
  }
  fail("deadlock without a thread in a warp operation");
}

}  // namespace dshc::simt
