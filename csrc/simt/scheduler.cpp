// Who runs next. There is no loop that hands out turns: the thread that stops chooses its successor and switches to it
// directly, which halves the number of switches; and a thread that ends leaves its fiber to the next one that begins.
#include "scheduler.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>

#include "block.h"
#include "simt.h"

namespace dshc::simt {
namespace {

constexpr int64_t kMaxThreads = 1024, kMaxShared = 227 * 1024;  // what compute capability 9.0 grants on request

Order order = Order::ascending;
uint64_t random_state = 1;
int64_t only_ends = 0;
int n_multiprocessors = 2;

uint32_t random_below(uint32_t n) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>((random_state >> 33) * n >> 31);
}

// One launch at a time: a kernel cannot launch another.
struct Grid {
  Launch launch;
  std::vector<int64_t> blocks;  // numbers, in the order they begin
  size_t n_begun = 0;
  std::vector<Block*> alive;
  size_t turn = 0;              // in `alive`
  bool next_block = false;      // the turn goes on at the next choice
  uint32_t patience = 1;        // in random order only at one of so many: a block may be far ahead when another goes on
  Thread* current = nullptr;
  bool in_atomic = false;       // between its load and its store nobody may come
};
Grid grid;

Fiber main_fiber;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle_fibers;
std::vector<std::unique_ptr<Block>> block_pool;  // their vectors keep their memory from launch to launch
std::vector<Block*> idle_blocks;
Fiber* running = &main_fiber;
Fiber* came_from = nullptr;  // the fiber that ran before this one

Size unfold(int64_t number, Size size) {
  const int64_t x = number % size.x, rest = number / size.x;
  return {static_cast<unsigned>(x), static_cast<unsigned>(rest % size.y), static_cast<unsigned>(rest / size.y)};
}

int64_t volume(Size size) { return int64_t{size.x} * size.y * size.z; }

template <class T>
void put_in_order(std::vector<T>& numbers) {
  std::iota(numbers.begin(), numbers.end(), T{0});
  if (order == Order::descending) std::reverse(numbers.begin(), numbers.end());
  if (order != Order::random) return;
  for (size_t i = numbers.size(); i > 1; --i) {
    std::swap(numbers[i - 1], numbers[random_below(static_cast<uint32_t>(i))]);
  }
}

void begin_block() {
  if (idle_blocks.empty()) {
    block_pool.push_back(std::make_unique<Block>());
    idle_blocks.push_back(block_pool.back().get());
  }
  Block* block = idle_blocks.back();
  idle_blocks.pop_back();
  const int n = static_cast<int>(volume(grid.launch.block));
  block->index = unfold(grid.blocks[grid.n_begun++], grid.launch.grid);
  block->n_done = block->n_arrived = block->n_true = 0;
  block->threads.resize(static_cast<size_t>(n));
  block->at_position.resize(static_cast<size_t>(n));
  block->warps.resize(static_cast<size_t>((n + kWarp - 1) / kWarp));
  put_in_order(block->at_position);
  for (int position = 0; position < n; ++position) {
    const int number = block->at_position[static_cast<size_t>(position)];
    block->threads[static_cast<size_t>(number)] = {block,    unfold(number, grid.launch.block), number,
                                                   position, State::fresh, Where(), nullptr};
  }
  for (Warp& warp : block->warps) warp.waiting = warp.done = 0;
  if (n % kWarp != 0) block->warps.back().done = ~0u << n % kWarp;
  block->ready.reset(n, true);
  block->shared = std::malloc(grid.launch.shared_bytes);
  std::memset(block->shared, pattern(), grid.launch.shared_bytes);
  grid.alive.push_back(block);
}

void end_block(Block* block) {
  std::free(block->shared);
  idle_blocks.push_back(block);
  const auto place = std::find(grid.alive.begin(), grid.alive.end(), block);
  const size_t at = static_cast<size_t>(place - grid.alive.begin());
  grid.alive.erase(place);
  if (grid.turn > at) --grid.turn;
  if (grid.n_begun < grid.blocks.size()) begin_block();
  if (grid.turn >= grid.alive.size()) grid.turn = 0;
}

// The thread that goes on; null when the grid is complete.
Thread* choose() {
  if (grid.alive.empty()) return nullptr;
  if (grid.next_block) {
    const size_t n = grid.alive.size();
    if (order != Order::random) {
      grid.turn = (grid.turn + 1) % n;
    } else if (random_below(grid.patience) == 0) {
      grid.turn = random_below(static_cast<uint32_t>(n));
    }
    grid.next_block = false;
  }
  for (size_t tried = 0; grid.alive[grid.turn]->ready.empty(); ++tried) {
    if (tried == grid.alive.size()) fail_deadlock(*grid.alive[grid.turn]);
    grid.turn = (grid.turn + 1) % grid.alive.size();
  }
  Block* block = grid.alive[grid.turn];
  const auto n_threads = static_cast<uint32_t>(block->threads.size());
  const int from = order == Order::random ? static_cast<int>(random_below(n_threads)) : 0;
  return &block->threads[static_cast<size_t>(block->at_position[static_cast<size_t>(block->ready.next(from))])];
}

void make_current(Thread* thread) {
  grid.current = thread;
  threadIdx = {thread->index.x, thread->index.y, thread->index.z};
  blockIdx = {thread->block->index.x, thread->block->index.y, thread->block->index.z};
}

void run_fiber();

Fiber* fiber_of(Thread* thread) {
  if (thread->fiber != nullptr) return thread->fiber;
  if (idle_fibers.empty()) {
    fibers.push_back(std::make_unique<Fiber>(&run_fiber));
    idle_fibers.push_back(fibers.back().get());
  }
  thread->fiber = idle_fibers.back();
  idle_fibers.pop_back();
  return thread->fiber;
}

void go_on_in(Fiber* next) {
  came_from = running;
  running = next;
  came_from->switch_to(*next);
}

// Another thread takes over; returns when this one is chosen again.
void give_way() {
  Thread* self = grid.current;
  Thread* next = choose();
  if (next == self) return;
  Fiber* fiber = fiber_of(next);
  make_current(next);
  go_on_in(fiber);
}

void end_thread() {
  Thread* thread = grid.current;
  Block* block = thread->block;
  check_not_awaited(*thread);
  thread->state = State::done;
  block->ready.erase(thread->position);
  block->warp_of(*thread).done |= 1u << thread->number % kWarp;
  if (++block->n_done == static_cast<int>(block->threads.size())) end_block(block);
}

// What every fiber does: the thread it was begun for, then any other that begins.
void run_fiber() {
  Fiber::entered(*came_from);
  for (;;) {
    grid.current->state = State::running;
    grid.launch.run(grid.launch.arguments);
    Fiber* self = running;
    end_thread();
    Thread* next = choose();
    if (next != nullptr && next->fiber == nullptr) {
      next->fiber = self;
      make_current(next);
      continue;
    }
    idle_fibers.push_back(self);
    if (next != nullptr) make_current(next);
    go_on_in(next != nullptr ? next->fiber : &main_fiber);
  }
}

bool takes(const Launch& launch) {
  const Size g = launch.grid, b = launch.block;
  return g.x >= 1 && g.y >= 1 && g.z >= 1 && b.x >= 1 && b.y >= 1 && b.z >= 1 && g.x <= 0x7FFFFFFFu && g.y <= 65535 &&
         g.z <= 65535 && b.x <= kMaxThreads && b.y <= kMaxThreads && b.z <= 64 && volume(b) <= kMaxThreads &&
         static_cast<int64_t>(launch.shared_bytes) <= kMaxShared;
}

}  // namespace

void set_order(Order new_order, uint64_t seed) {
  order = new_order;
  random_state = seed * 2 + 1;
}

void set_only_ends(int64_t n) { only_ends = n; }

void set_multiprocessors(int n) { n_multiprocessors = n; }

int multiprocessors() { return n_multiprocessors; }

unsigned char pattern() {
  if (order == Order::ascending) return 0xCD;
  return order == Order::descending ? 0xFF : static_cast<unsigned char>(random_below(255) + 1);
}

int run_grid(const Launch& launch) {
  if (!takes(launch)) return kInvalidConfiguration;
  grid = Grid{};
  grid.launch = launch;
  const int64_t n_blocks = volume(launch.grid), n_run = only_ends > 0 ? std::min(n_blocks, 2 * only_ends) : n_blocks;
  grid.blocks.resize(static_cast<size_t>(n_run));
  put_in_order(grid.blocks);
  if (order == Order::random) grid.patience = 1u << random_below(5);
  for (int64_t& block : grid.blocks) block += block < n_run / 2 ? 0 : n_blocks - n_run;
  blockDim = {launch.block.x, launch.block.y, launch.block.z};
  gridDim = {launch.grid.x, launch.grid.y, launch.grid.z};
  // Enough blocks to meet each other; more would only cost stacks.
  const size_t n_alive = static_cast<size_t>(std::clamp<int64_t>(1024 / volume(launch.block), 3, 8));
  while (grid.n_begun < std::min(n_alive, grid.blocks.size())) begin_block();
  Thread* first = choose();
  Fiber* fiber = fiber_of(first);
  make_current(first);
  go_on_in(fiber);
  grid.current = nullptr;
  return kSuccess;
}

Thread& current() { return *grid.current; }

const void* current_kernel() { return grid.current != nullptr ? grid.launch.function : nullptr; }

void wait(State state, Where where) {
  Thread& self = *grid.current;
  self.state = state;
  self.where = where;
  self.block->ready.erase(self.position);
  give_way();
}

void offer_place(bool to_other_blocks) {
  grid.next_block |= to_other_blocks;
  give_way();
}

void barrier_passed() {
  if (order == Order::descending || (order == Order::random && random_below(2) == 0)) grid.next_block = true;
}

// In global memory blocks take turns at each atomic operation; inside a block only a random order needs the others' turn.
static void offer_place_at(const void* address) {
  const Block* block = grid.current->block;
  const auto offset = static_cast<const char*>(address) - static_cast<const char*>(block->shared);
  const bool is_shared = offset >= 0 && offset < static_cast<ptrdiff_t>(grid.launch.shared_bytes);
  if (!is_shared) {
    offer_place(true);
  } else if (order == Order::random) {
    offer_place(false);
  }
}

void before_atomic(const void* address) {
  offer_place_at(address);
  grid.in_atomic = true;
}

// What a thread does after its atomic may be seen too late by others, so they get their turn here as well.
void after_atomic(const void* address) {
  grid.in_atomic = false;
  offer_place_at(address);
}

void before_store() {
  if (order != Order::random || grid.current == nullptr || grid.in_atomic) return;
  const uint32_t chance = random_below(4);  // half of the stores: races can have few of them
  if (chance < 2) offer_place(chance == 0);
}

void fence() { offer_place(true); }

void* shared_memory() { return grid.current->block->shared; }

}  // namespace dshc::simt
