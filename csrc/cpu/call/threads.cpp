#include "threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "call.h"
#include "float_mode.h"

namespace dshc::cpu {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

struct Job {
  const std::function<void(int64_t)>* task = nullptr;
  int64_t n_tasks = 0;
  CallState* call = current_call();
  FloatMode float_mode = FloatMode::of_this_thread();
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;

  void work() {
    constexpr int64_t kFewTasks = 1 << 16;  // of which each may be long
    const int64_t look_every = n_tasks <= kFewTasks ? 1 : 64;
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n_tasks;) {
      try {
        if (i % look_every == 0 && is_stopped(call)) throw Stopped();
        (*task)(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(n_tasks, std::memory_order_relaxed);
      }
    }
  }
};

// Whether this thread is in a job of the pool, which takes no second one from it.
thread_local bool t_in_pool = false;

class InPool {
 public:
  InPool() { t_in_pool = true; }
  ~InPool() { t_in_pool = false; }
};

// Signals are for the program's own threads: a handler that ran here would not wake a main thread that sleeps. Those that
// tell of a fault belong where it happened.
class NoSignals {
 public:
  NoSignals() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF}) sigdelset(&blocked, fault);
    pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// Sleeping and being woken costs tens of microseconds, more than a small search; so whoever waits looks for a moment
// before it sleeps. Short enough to be no burden where the cores are shared.
template <class Ready>
bool soon(Ready ready) {
  constexpr auto kMoment = std::chrono::microseconds(30);
  const auto begin = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() - begin < kMoment);
  return false;
}

class Pool {
 public:
  void run(Job& job, int n_threads) {
    take_turn(job.call);
    const std::lock_guard<std::timed_mutex> one_call_at_a_time(call_mutex_, std::adopt_lock);
    const InPool in_pool;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const int helpers = hire(n_threads - 1);
      job_ = &job;
      invited_ = helpers;
      running_ = helpers;
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    soon([this] { return running_.load(std::memory_order_relaxed) == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    const auto all_done = [this] { return running_ == 0; };
    if (job.call && job.call->should_stop) {
      while (!done_.wait_for(lock, kPatience, all_done)) {
        lock.unlock();
        is_stopped(job.call);  // if so, the others find it out for themselves
        lock.lock();
      }
    } else {
      done_.wait(lock, all_done);
    }
    job_ = nullptr;
  }

 private:
  static constexpr auto kPatience = std::chrono::milliseconds(20);

  void take_turn(CallState* call) {
    if (!call || !call->should_stop) return call_mutex_.lock();
    while (!call_mutex_.try_lock_for(kPatience)) {
      if (is_stopped(call)) throw Stopped();
    }
  }

  // Up to n workers; fewer where the system has no more threads to give, because the caller can do all the work.
  int hire(int n) {
    if (static_cast<int>(workers_.size()) >= n) return n;
    const NoSignals no_signals;
    while (static_cast<int>(workers_.size()) < n) {
      const int id = static_cast<int>(workers_.size());
      try {
        // A worker born for this job must see its generation as new.
        workers_.emplace_back([this, id, seen = generation_.load()] { loop(id, seen); });
      } catch (const std::system_error&) {
        return id;
      }
    }
    return n;
  }

  void loop(int id, uint64_t seen) {
    const InPool in_pool;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      lock.unlock();
      soon([&] { return generation_.load(std::memory_order_relaxed) != seen; });
      lock.lock();
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (id >= invited_) continue;
      Job* job = job_;
      lock.unlock();
      {
        const Helping helping(job->call);
        const InFloatMode mode(job->float_mode);
        job->work();
      }
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::timed_mutex call_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  Job* job_ = nullptr;
  int invited_ = 0;
  // Written under the mutex; read without it by those who only look whether it is worth taking.
  std::atomic<int> running_{0};
  std::atomic<uint64_t> generation_{0};
};

// Never destroyed: its workers sleep on it until the process ends. After a fork the child has none of the workers and may
// have inherited a locked mutex, so it starts a new pool and leaves the old memory alone.
std::atomic<Pool*> g_pool{nullptr};

Pool& pool() {
  Pool* current = g_pool.load(std::memory_order_acquire);
  if (current) return *current;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { g_pool.store(nullptr); });
  (void)registered;
  auto* fresh = new Pool;
  if (g_pool.compare_exchange_strong(current, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *current;
}

}  // namespace

void parallel_for(int64_t n_tasks, int n_threads, const std::function<void(int64_t)>& task) {
  if (n_tasks < n_threads) n_threads = static_cast<int>(n_tasks);
  Job job;
  job.task = &task;
  job.n_tasks = n_tasks;
  if (n_threads <= 1 || t_in_pool) {
    job.work();
  } else {
    pool().run(job, n_threads);
  }
  if (job.error) std::rethrow_exception(job.error);
  if (job.call && job.call->stopped.load(std::memory_order_relaxed)) throw Stopped();
}

int64_t task_count(int64_t n_items, double nanoseconds_per_item, int n_threads) {
  constexpr double kWorthWaking = 30e3;  // ns; waking a sleeping thread costs about a tenth of this
  constexpr double kLongTask = 5e6;      // ns, which may be several times too low
  const double total = static_cast<double>(n_items) * nanoseconds_per_item;
  const int64_t short_enough = std::min(n_items, static_cast<int64_t>(total / kLongTask) + 1);
  if (n_threads <= 1 || total < kWorthWaking) return short_enough;
  const int64_t wanted = static_cast<int64_t>(n_threads) * 4;
  const int64_t paid_for = static_cast<int64_t>(total / (kWorthWaking / 2)) + 1;
  return std::min(std::max(std::min(wanted, paid_for), short_enough), n_items);
}

}  // namespace dshc::cpu
