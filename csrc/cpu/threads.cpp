#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

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
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;

  void work() {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n_tasks;) {
      try {
        (*task)(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(n_tasks, std::memory_order_relaxed);
      }
    }
  }
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
    const std::lock_guard<std::mutex> one_call_at_a_time(call_mutex_);
    const int helpers = n_threads - 1;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(workers_.size()) < helpers) {
        const int id = static_cast<int>(workers_.size());
        // A worker born for this job must see its generation as new.
        workers_.emplace_back([this, id, seen = generation_.load()] { loop(id, seen); });
      }
      job_ = &job;
      invited_ = helpers;
      running_ = helpers;
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    soon([this] { return running_.load(std::memory_order_relaxed) == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
    job_ = nullptr;
  }

 private:
  void loop(int id, uint64_t seen) {
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
      job->work();
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex call_mutex_, mutex_;
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
  if (n_threads <= 1) {
    job.work();
  } else {
    pool().run(job, n_threads);
  }
  if (job.error) std::rethrow_exception(job.error);
}

int64_t task_count(int64_t n_items, double nanoseconds_per_item, int n_threads) {
  constexpr double kWorthWaking = 30e3;  // ns; waking a sleeping thread costs about a tenth of this
  const double total = static_cast<double>(n_items) * nanoseconds_per_item;
  if (n_threads <= 1 || total < kWorthWaking) return n_items > 0 ? 1 : 0;
  const int64_t wanted = static_cast<int64_t>(n_threads) * 4;
  const int64_t paid_for = static_cast<int64_t>(total / (kWorthWaking / 2)) + 1;
  const int64_t tasks = wanted < paid_for ? wanted : paid_for;
  return tasks < n_items ? tasks : n_items;
}

}  // namespace dshc::cpu
