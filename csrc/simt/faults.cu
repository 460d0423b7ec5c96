// Kernels with planted faults, each beside its correct twin (fault = 0): what the interpreter must catch, and what it
// must let pass (tests/cuda/test_simt.py). All take int32 values [n] and write int32 out.
#include "../cuda/launch.h"
#include "request.h"

namespace dshc::simt {
namespace {

using cuda::dynamic_shared;
using cuda::launch;

constexpr int kThreads = 96;
constexpr unsigned kAll = 0xFFFFFFFFu;

// out[t] = values[t - 1] + values[t], through shared memory.
template <bool kFault>
__global__ void missing_barrier(const int* values, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  tile[t] = values[t];
  if (!kFault) __syncthreads();
  out[t] = (t > 0 ? tile[t - 1] : 0) + tile[t];
}

// The tile is written again before everybody has read it: out[t] = the left neighbour's sum over both rounds.
template <bool kFault>
__global__ void missing_second_barrier(const int* values, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    tile[t] = values[t] * (round + 1);
    __syncthreads();
    sum += tile[t > 0 ? t - 1 : 0];
    if (!kFault) __syncthreads();
  }
  out[t] = sum;
}

// As missing_barrier, inside a warp.
template <bool kFault>
__global__ void missing_syncwarp(const int* values, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  tile[t] = values[t];
  if (!kFault) __syncwarp();
  out[t] = tile[t ^ 1];
}

// out[0] = the largest value, out[1] = how often it was raised: blocks share out[0].
template <bool kFault>
__global__ void shared_bound(const int* values, int* out) {
  if (threadIdx.x != 0) return;
  const int mine = values[blockIdx.x];
  if (kFault) {
    const int seen = out[0];
    if (mine > seen) {
      atomicAdd(&out[1], 1);
      out[0] = mine;
    }
  } else if (mine > atomicMax(&out[0], mine)) {
    atomicAdd(&out[1], 1);
  }
}

// out[0] = sum of the values: a value that blocks share, read and written back in one expression.
template <bool kFault>
__global__ void plain_sum(const int* values, int n, int* out) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= n) return;
  if (kFault) {
    out[0] += values[i];
  } else {
    atomicAdd(&out[0], values[i]);
  }
}

// The same in shared memory: out[v] = how many of the values are v modulo 4.
template <bool kFault>
__global__ void plain_counters(const int* values, int* out) {
  int* counters = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  counters[t] = 0;
  __syncthreads();
  if (kFault) {
    ++counters[values[t] % 4];
  } else {
    atomicAdd(&counters[values[t] % 4], 1);
  }
  __syncthreads();
  if (t < 4) out[t] = counters[t];
}

// The last block to finish adds up what the others left in `partial`; it must be there before the block says so.
template <bool kFault>
__global__ void published_too_early(const int* values, int* partial, unsigned* finished, int* out) {
  if (threadIdx.x != 0) return;
  if (!kFault) {
    partial[blockIdx.x] = values[blockIdx.x];
    __threadfence();
  }
  const bool is_last = atomicAdd(finished, 1u) == gridDim.x - 1;
  if (kFault) partial[blockIdx.x] = values[blockIdx.x];
  if (!is_last) return;
  unsigned sum = 0;  // of whatever is there: it may wrap
  for (unsigned b = 0; b < gridDim.x; ++b) sum += static_cast<unsigned>(partial[b]);
  out[0] = static_cast<int>(sum);
}

// out[b] = sum of a block's tile of values.
template <bool kFault>
__global__ void tile_edge(const int* values, int n, int* out) {
  const int first = static_cast<int>(blockIdx.x * kThreads);
  const int end = min(first + kThreads + (kFault ? 1 : 0), n);
  if (threadIdx.x != 0) return;
  int sum = 0;
  for (int i = first; i < end; ++i) sum += values[i];
  out[blockIdx.x] = sum;
}

// One element past dynamic shared memory.
template <bool kFault>
__global__ void past_shared(const int* values, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  tile[t] = values[t];
  __syncthreads();
  const int next = t + 1;
  out[t] = kFault || next < kThreads ? tile[next] : 0;
}

// Shared memory that nobody wrote.
template <bool kFault>
__global__ void unwritten_shared(const int* values, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  if (t > 0 || !kFault) tile[t] = values[t];
  __syncthreads();
  out[t] = tile[t];
}

// out[0] = sum of n values, n less than a warp.
template <bool kFault>
__global__ void dead_lane(const int* values, int n, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  if (kFault && t >= n) return;
  int sum = t < n ? values[t] : 0;
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAll, sum, offset);
  if (t == 0) out[0] = sum;
}

// A lane that is alive, but elsewhere.
template <bool kFault>
__global__ void missing_lane(const int* values, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int sum = values[t];
  if (!kFault || t != 5) sum = __shfl_sync(kAll, sum, 0);
  __syncthreads();
  out[t] = sum;
}

// A shuffle that reads a lane outside its mask.
template <bool kFault>
__global__ void lane_outside_mask(const int* values, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  out[t] = 0;
  if (t < 16) out[t] = __shfl_down_sync(0xFFFFu, values[t], 1, kFault ? 32 : 16);
}

// Two halves of a warp in the same operation with different masks is right; with the same mask in two places it is not.
template <bool kFault>
__global__ void two_places(const int* values, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const unsigned low = 0x0000FFFFu, high = 0xFFFF0000u;
  if (t % 32 < 16) {
    out[t] = __shfl_sync(kFault ? kAll : low, values[t], 3);
  } else {
    out[t] = __shfl_sync(kFault ? kAll : high, values[t], 19);
  }
}

// One element past the input.
template <bool kFault>
__global__ void past_input(const int* values, int n, int* out) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i < n) out[i] = values[i] + (kFault || i + 1 < n ? values[i + 1] : 0);
}

// A barrier inside a branch that some threads do not take.
template <bool kFault>
__global__ void barrier_in_branch(const int* values, int n, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  tile[t] = values[min(t, n - 1)];
  if (!kFault) {
    __syncthreads();
  } else if (t < n) {
    __syncthreads();
  }
  if (t < n) out[t] = tile[n - 1 - t];
}

// Threads of a block at two different barriers.
template <bool kFault>
__global__ void two_barriers(const int* values, int* out) {
  int* tile = dynamic_shared<int>();
  const int t = static_cast<int>(threadIdx.x);
  tile[t] = values[t];
  if (kFault && t % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[t] = tile[kThreads - 1 - t];
}

// A vector load from wherever the values begin.
template <bool kFault>
__global__ void misaligned(const int* values, int n, int* out) {
  const int first = 4 * static_cast<int>(threadIdx.x);
  if (first + 4 > n) return;
  if (kFault) {
    const int4 four = *reinterpret_cast<const int4*>(values + first);
    out[threadIdx.x] = four.x + four.y + four.z + four.w;
  } else {
    out[threadIdx.x] = values[first] + values[first + 1] + values[first + 2] + values[first + 3];
  }
}

struct Case {
  bool fault;
  const int* values;
  int n;
  int* out;
};

template <class Run>
int with(Request& request, Run run) {
  return run(Case{request.integer("fault") != 0, request.array<const int>("values"),
                  static_cast<int>(request.integer("n")), request.array<int>("out")});
}

// `kernel<fault>` over one block with a tile in shared memory, for kernels that take (values, out).
template <void (*kFaulty)(const int*, int*), void (*kCorrect)(const int*, int*)>
int one_block(Request& request) {
  return with(request, [](const Case& c) {
    return launch(c.fault ? kFaulty : kCorrect, dim3(1), dim3(kThreads), kThreads * sizeof(int), nullptr, c.values,
                  c.out);
  });
}

// The same for kernels that take (values, n, out), over as many blocks as the values need.
template <void (*kFaulty)(const int*, int, int*), void (*kCorrect)(const int*, int, int*)>
int some_blocks(Request& request) {
  return with(request, [](const Case& c) {
    const dim3 grid(static_cast<unsigned>((c.n + kThreads - 1) / kThreads));
    return launch(c.fault ? kFaulty : kCorrect, grid, dim3(kThreads), kThreads * sizeof(int), nullptr, c.values, c.n,
                  c.out);
  });
}

int run_shared_bound(Request& request) {
  return with(request, [](const Case& c) {
    c.out[0] = c.out[1] = 0;
    return launch(c.fault ? shared_bound<true> : shared_bound<false>, dim3(static_cast<unsigned>(c.n)), dim3(32), 0,
                  nullptr, c.values, c.out);
  });
}

int run_plain_sum(Request& request) {
  request.array<int>("out")[0] = 0;
  return some_blocks<plain_sum<true>, plain_sum<false>>(request);
}

int run_published_too_early(Request& request) {
  return with(request, [](const Case& c) {
    Memory partial(static_cast<size_t>(c.n) * sizeof(int));
    unsigned finished = 0;
    return launch(c.fault ? published_too_early<true> : published_too_early<false>, dim3(static_cast<unsigned>(c.n)),
                  dim3(32), 0, nullptr, c.values, reinterpret_cast<int*>(partial.data()), &finished, c.out);
  });
}

}  // namespace

const std::map<std::string, Op>& fault_ops() {
  static const std::map<std::string, Op> ops{
      {"missing_barrier", one_block<missing_barrier<true>, missing_barrier<false>>},
      {"missing_second_barrier", one_block<missing_second_barrier<true>, missing_second_barrier<false>>},
      {"missing_syncwarp", one_block<missing_syncwarp<true>, missing_syncwarp<false>>},
      {"shared_bound", run_shared_bound},
      {"plain_sum", run_plain_sum},
      {"plain_counters", one_block<plain_counters<true>, plain_counters<false>>},
      {"published_too_early", run_published_too_early},
      {"tile_edge", some_blocks<tile_edge<true>, tile_edge<false>>},
      {"past_shared", one_block<past_shared<true>, past_shared<false>>},
      {"unwritten_shared", one_block<unwritten_shared<true>, unwritten_shared<false>>},
      {"dead_lane", some_blocks<dead_lane<true>, dead_lane<false>>},
      {"missing_lane", one_block<missing_lane<true>, missing_lane<false>>},
      {"lane_outside_mask", one_block<lane_outside_mask<true>, lane_outside_mask<false>>},
      {"two_places", one_block<two_places<true>, two_places<false>>},
      {"past_input", some_blocks<past_input<true>, past_input<false>>},
      {"barrier_in_branch", some_blocks<barrier_in_branch<true>, barrier_in_branch<false>>},
      {"two_barriers", one_block<two_barriers<true>, two_barriers<false>>},
      {"misaligned", some_blocks<misaligned<true>, misaligned<false>>},
  };
  return ops;
}

}  // namespace dshc::simt
