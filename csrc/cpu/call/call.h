// What holds for a whole call of an op, on every thread that works for it: the instruction set, which is read once because
// another thread may choose another at any moment, and whether the call is to end early.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

#include "../../core/stop.h"

namespace dshc::cpu {

struct Level;

// Shared by the threads of a call.
struct CallState {
  const Level* level = nullptr;
  bool (*should_stop)(void*) = nullptr;  // for the thread that made the call alone, as is the next line
  void* context = nullptr;
  std::chrono::steady_clock::time_point next_question{};
  std::atomic<bool> stopped{false};
};

// Every op begins with one. Inside another op's call it changes nothing.
class Call {
 public:
  Call();
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  CallState state_;
  bool is_outer_;
};

// To be passed in loops that may be long, with a rough estimate of the work since the last pass; throws Stopped where the
// call is to end. Costs a few nanoseconds.
void stop_point(double nanoseconds);

// Calls use(first, last) for stretches of [begin, end), with a stop point before each. The loop over a stretch is the
// caller's: one with a call in its middle is slower.
template <class Use>
void in_stretches(int64_t begin, int64_t end, double nanoseconds_per_item, Use use) {
  constexpr int64_t kStretch = 1 << 14;
  for (int64_t first = begin; first < end; first += kStretch) {
    const int64_t last = kStretch < end - first ? first + kStretch : end;
    stop_point(nanoseconds_per_item * static_cast<double>(last - first));
    use(first, last);
  }
}

// ---- for the pool ----

// What this thread works for; null outside of calls. A worker has the state of the job's caller.
CallState* current_call();

class Helping {  // a worker, for one job
 public:
  explicit Helping(CallState* call);
  ~Helping();
  Helping(const Helping&) = delete;
  Helping& operator=(const Helping&) = delete;
};

// Whether the call is to end. Asks, where it is time to and this thread is the one that made the call.
bool is_stopped(CallState* call);

}  // namespace dshc::cpu
