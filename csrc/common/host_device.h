// Marks arithmetic that the CPU and the CUDA back end share.
#pragma once
#ifdef __CUDACC__
#define DSHC_HOST_DEVICE __host__ __device__
#else
#define DSHC_HOST_DEVICE
#endif
