#include "../core/device.h"

#include <cuda_runtime.h>

namespace dshc::cuda {

int runtime_version() { return CUDART_VERSION; }

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

DeviceGuard::DeviceGuard(int device) : status(enter(device)) {}

DeviceGuard::~DeviceGuard() {
  if (before_ >= 0) cudaSetDevice(before_);
}

int DeviceGuard::enter(int device) {
  int now = -1;
  cudaError_t found = cudaGetDevice(&now);
  if (found == cudaSuccess && now != device) {
    found = cudaSetDevice(device);
    if (found == cudaSuccess) before_ = now;
  }
  if (found != cudaSuccess) cudaGetLastError();  // or the next launch would be blamed for it
  return static_cast<int>(found);
}

uint64_t capture_id(void* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  if (cudaStreamGetCaptureInfo(static_cast<cudaStream_t>(stream), &status, &id) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

const char* error_text(int status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }

}  // namespace dshc::cuda
