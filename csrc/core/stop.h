// Ending a long call early (Ctrl-C). Who calls an op says whom to ask; the CPU back end asks between blocks of work.
#pragma once

namespace dshc {

// Leaves an op that was told to stop, when all its threads are idle again. Its results then hold anything.
struct Stopped {};

namespace cpu {

// Ops that this thread calls while this lives ask `should_stop(context)` every 20 ms or so, on this thread and with no
// lock held that another call needs to end; true: the op throws Stopped. It must not throw; it may call other ops. Null:
// nobody is asked.
class Stoppable {
 public:
  Stoppable(bool (*should_stop)(void*), void* context);
  ~Stoppable();
  Stoppable(const Stoppable&) = delete;
  Stoppable& operator=(const Stoppable&) = delete;

 private:
  bool (*outer_)(void*);
  void* outer_context_;
};

}  // namespace cpu
}  // namespace dshc
