// The state of the blocks that are alive, shared by the scheduler and the operations threads meet in.
#pragma once
#include <cstdint>
#include <vector>

#include "fiber.h"
#include "ready_set.h"
#include "scheduler.h"

namespace dshc::simt {

constexpr int kWarp = 32;

struct Block;

enum class State : uint8_t { fresh, running, at_barrier, in_warp_operation, done };

struct Thread {
  Block* block;
  Size index;
  int number;    // in the block
  int position;  // in the block's order
  State state;
  Where where;   // of what it waits in
  Fiber* fiber;  // null until it begins
};

// What a lane brought to a warp operation, and what it takes away.
struct LaneOperation {
  WarpOp kind;
  unsigned mask;
  int argument, width;
  Where where;
  uint64_t value, result;
};

struct Warp {
  unsigned waiting = 0;  // lanes
  unsigned done = 0;     // lanes that ended, or never were
  LaneOperation lanes[kWarp];
};

struct Block {
  Size index;
  std::vector<Thread> threads;
  std::vector<int> at_position;  // thread numbers in the order they are scheduled in
  std::vector<Warp> warps;
  ReadySet ready;                // positions
  void* shared = nullptr;
  int n_done = 0;
  // The barrier that threads are gathering at.
  int n_arrived = 0, n_true = 0, barrier_result = 0;
  Barrier barrier_kind = Barrier::plain;
  Where barrier_where;

  Warp& warp_of(const Thread& thread) { return warps[static_cast<size_t>(thread.number / kWarp)]; }
  void wake(Thread& thread) {
    thread.state = State::running;
    ready.insert(thread.position);
  }
};

// The running thread.
Thread& current();
// The function of the running kernel; null outside of one.
const void* current_kernel();
// The running thread waits in `state` until another one wakes it.
void wait(State state, Where where);
// The running thread stays ready; another one may go on, of another block too.
void offer_place(bool to_other_blocks);
// A barrier is complete: a good moment to take another block.
void barrier_passed();
// What a thread that ends may not leave behind: others that wait for it.
void check_not_awaited(const Thread& thread);
// Nothing can go on, but not every thread has ended.
[[noreturn]] void fail_deadlock(Block& block);
[[noreturn]] void fail_at(const Thread& thread, Where where, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

}  // namespace dshc::simt
