// How Python calls an op: the GIL released, Ctrl-C heard, and a clean end for threads that outlive the interpreter.
#pragma once
#include <pthread.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <memory>
#include <utility>

#include "../core/stop.h"

namespace dshc {

// Takes the GIL again. While the interpreter ends it never gives it to a daemon thread: before Python 3.14 it calls
// pthread_exit() instead, whose unwinding ends the process at the first destructor it would have to leave. So such a thread
// waits here for the end of the process, as it does from Python 3.14 on.
inline void take_gil(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {  // only that unwinding; to leave this block would be to swallow it, which ends the process too
    for (;;) pause();
  }
}

class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ~ReleasedGil() { take_gil(state_); }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

  // With the GIL for a moment.
  template <class Use>
  auto with_gil(Use use) {
    take_gil(state_);
    const auto result = use();
    state_ = PyEval_SaveThread();
    return result;
  }

 private:
  PyThreadState* state_;
};

// Python runs its signal handlers in the main thread only, which after a fork is the one that forked.
class MainThread {
 public:
  static void remember() {
    const auto main = pybind11::module_::import("threading").attr("main_thread")();
    ident() = main.attr("ident").cast<unsigned long>();
    pthread_atfork(nullptr, nullptr, [] { ident() = PyThread_get_thread_ident(); });
  }
  static bool is_this() { return ident() == PyThread_get_thread_ident(); }

 private:
  static std::atomic<unsigned long>& ident() {
    static std::atomic<unsigned long> main{0};
    return main;
  }
};

// Runs a CPU op with the GIL released. A signal whose handler raises (Ctrl-C) ends it early with that exception.
template <class Work>
void run_op(Work work) {
  struct Interrupt {
    ReleasedGil* released;
    std::unique_ptr<pybind11::error_already_set> error;

    static bool has_come(void* context) {
      auto& mine = *static_cast<Interrupt*>(context);
      return mine.released->with_gil([&] {
        if (PyErr_CheckSignals() == 0) return false;
        mine.error = std::make_unique<pybind11::error_already_set>();
        return true;
      });
    }
  } interrupt{};
  {
    ReleasedGil released;
    interrupt.released = &released;
    const cpu::Stoppable stoppable(MainThread::is_this() ? &Interrupt::has_come : nullptr, &interrupt);
    try {
      work();
    } catch (const Stopped&) {
    }
  }
  if (interrupt.error) throw pybind11::error_already_set(std::move(*interrupt.error));
}

}  // namespace dshc
