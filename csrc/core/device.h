// The CUDA runtime that is built in (static), beside whichever one torch brings.
#pragma once
#include <cstdint>

namespace dshc::cuda {

// 1000 * major + 10 * minor: of the runtime built in, and of the newest one the driver runs (0: no driver).
int runtime_version();
int driver_version();

// Makes `device` the calling thread's, for as long as it lives; then the one before is the thread's again. `status` is a
// cudaError_t.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  const int status;

 private:
  int before_ = -1;  // -1: nothing to restore

  int enter(int device);
};

// Of the graph that is being recorded on the stream, unlike that of any other recording of this process; 0 where none is.
uint64_t capture_id(void* stream);

const char* error_text(int status);

}  // namespace dshc::cuda
