// One pool of worker threads for all ops. Its size is an argument of each call (torch.get_num_threads() on the Python
// side), it grows when a call asks for more, and it is rebuilt in the child after a fork.
#pragma once
#include <cstdint>
#include <functional>

namespace dshc::cpu {

// Runs task(0) .. task(n_tasks - 1), each once, on up to n_threads threads, the caller's included; returns when all are
// done. The first exception a task throws is rethrown here. Calls from several threads take turns; inside a task, and in
// what a call asks whether to stop, tasks run on the thread itself. Every thread has the instruction set and the
// floating-point mode of the caller. Throws Stopped where the call is to end early (call.h): that is looked up between
// tasks, and in tasks of more than some milliseconds at stop_point().
void parallel_for(int64_t n_tasks, int n_threads, const std::function<void(int64_t)>& task);

// How many tasks to cut `n_items` into: 1 when the work is small, else a few for each thread so that they even out, and so
// many that none takes longer than a call may take to stop.
int64_t task_count(int64_t n_items, double nanoseconds_per_item, int n_threads);

}  // namespace dshc::cpu
