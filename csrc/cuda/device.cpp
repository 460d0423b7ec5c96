#include "../core/device.h"

#include <cuda_runtime.h>

namespace dshc::cuda {

int runtime_version() { return CUDART_VERSION; }

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

int set_device(int device) { return static_cast<int>(cudaSetDevice(device)); }

const char* error_text(int status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }

}  // namespace dshc::cuda
