// Runs the grid of one launch on the CPU, each thread of a block a fiber.
//
// A thread runs until it waits (barrier, warp operation), offers its place (atomics, fences) or ends; which one is next
// is what `Order` decides. Several blocks are alive at once. A mistake that shows here - a lane missing from a warp
// operation, threads apart at a barrier, a deadlock - ends the process with a message that names kernel, block and thread.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dshc::simt {

// The lowest thread and block first, the highest first, or a random one at each step.
enum class Order { ascending, descending, random };

// For launches from here on. `pattern()` is the byte that memory without a value is filled with; it depends on the order,
// so that a value which was never written does not look the same in all of them.
void set_order(Order order, uint64_t seed);
// The first and the last n blocks of each launch run, the others do not; 0: all of them.
void set_only_ends(int64_t n);
// How many multiprocessors kernels believe in: 2 unless said, so that small inputs are cut over blocks and big ones queue up.
void set_multiprocessors(int n);
int multiprocessors();
unsigned char pattern();

// A place in a kernel's source; as a default argument it is the caller's.
struct Where {
  const char* file;
  int line;
  constexpr Where(const char* f = __builtin_FILE(), int l = __builtin_LINE()) : file(f), line(l) {}
};

struct Size {
  unsigned x, y, z;
};

struct Launch {
  const void* function;  // of the kernel; only its name is asked for
  Size grid, block;
  size_t shared_bytes;
  void (*run)(void* arguments);  // the kernel for the current thread
  void* arguments;
};

constexpr int kSuccess = 0, kInvalidConfiguration = 9;  // as cudaError_t numbers them

// 0, or the number of the error that CUDA gives for such a launch.
int run_grid(const Launch& launch);

// ---- called by the running thread, through simt.h ----

enum class Barrier { plain, any, all, count };
enum class WarpOp { sync, shuffle, shuffle_up, shuffle_down, shuffle_xor, ballot, any, all, match_any };

int barrier(Barrier kind, bool predicate, Where where);
// `value`: what the lane gives; `argument` and `width`: of shuffles. Waits for all lanes of `mask`.
uint64_t warp_operation(WarpOp kind, unsigned mask, uint64_t value, int argument, int width, Where where);
// Around an atomic operation: others may come between. In global memory other blocks too.
void before_atomic(const void* address);
void after_atomic(const void* address);
void fence();
void before_store();  // a plain one (accesses.cpp)
void* shared_memory();  // the block's, as large as the launch asked for

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace dshc::simt
