// The CUDA runtime that is built in (static), beside whichever one torch brings.
#pragma once
#include <cstdint>

namespace dshc::cuda {

// 1000 * major + 10 * minor: of the runtime built in, and of the newest one the driver takes (0: no driver).
int runtime_version();
int driver_version();

// Makes `device` the calling thread's; returns a cudaError_t.
int set_device(int device);

const char* error_text(int status);

}  // namespace dshc::cuda
