#include "call.h"

#include <algorithm>

#include "../kernels/level.h"

namespace dshc::cpu {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBetweenQuestions = std::chrono::milliseconds(20);
constexpr double kBetweenLooks = 200e3;  // ns of estimated work, which may be several times too low

struct ThisThread {
  CallState* call;
  bool is_helper;        // of a call that another thread made
  double work;           // ns since the last look
  bool (*should_stop)(void*);
  void* context;
};

// Without a constructor: reading it is not guarded.
thread_local ThisThread t_thread = {nullptr, false, 0.0, nullptr, nullptr};

// The question may take long where others want the same lock (the GIL); asked less often then, it costs no more than a
// tenth of the time.
bool ask(ThisThread& me, CallState& call) {
  const auto begin = Clock::now();
  if (begin < call.next_question) return false;
  if (call.next_question == Clock::time_point{}) {  // the first look: the call is young
    call.next_question = begin + kBetweenQuestions;
    return false;
  }
  // Whoever is asked may call ops: they are calls of their own, and ask nobody that they are not told to ask, for this
  // question is not answered yet.
  const ThisThread before = me;
  me.call = nullptr;
  me.should_stop = nullptr;
  const bool stop = call.should_stop(call.context);
  me = before;
  const auto end = Clock::now();
  call.next_question = end + std::max<Clock::duration>(kBetweenQuestions, 10 * (end - begin));
  return stop;
}

}  // namespace

Stoppable::Stoppable(bool (*should_stop)(void*), void* context)
    : outer_(t_thread.should_stop), outer_context_(t_thread.context) {
  t_thread.should_stop = should_stop;
  t_thread.context = context;
}

Stoppable::~Stoppable() {
  t_thread.should_stop = outer_;
  t_thread.context = outer_context_;
}

Call::Call() : is_outer_(t_thread.call == nullptr) {
  if (!is_outer_) return;
  ThisThread& me = t_thread;
  state_.level = &chosen_level();
  state_.should_stop = me.should_stop;
  state_.context = me.context;
  me.call = &state_;
  me.is_helper = false;
  me.work = 0.0;
}

Call::~Call() {
  if (is_outer_) t_thread.call = nullptr;
}

Helping::Helping(CallState* call) { t_thread = {call, true, 0.0, nullptr, nullptr}; }
Helping::~Helping() { t_thread.call = nullptr; }

CallState* current_call() { return t_thread.call; }

const Level& level() { return *t_thread.call->level; }

bool is_stopped(CallState* call) {
  if (!call) return false;
  if (call->stopped.load(std::memory_order_relaxed)) return true;
  ThisThread& me = t_thread;
  if (me.is_helper || !call->should_stop || !ask(me, *call)) return false;
  call->stopped.store(true, std::memory_order_relaxed);
  return true;
}

void stop_point(double nanoseconds) {
  ThisThread& me = t_thread;
  me.work += nanoseconds;
  if (me.work < kBetweenLooks) return;
  me.work = 0.0;
  if (is_stopped(me.call)) throw Stopped();
}

}  // namespace dshc::cpu
