// What this GPU can do at most, one JSON object a line: {"what", "loop", "pace", "unit", "per_clock", "checked"}.
//
//   nvcc -O3 -std=c++17 -arch=sm_90a gpu_limits.cu -o gpu_limits && ./gpu_limits
//
// read, copy    bytes a second (copy: read and written) over buffers far larger than the second-level cache
// popc          32-bit population counts a second (one addition each, which another unit does)
// logic         32-bit operations of three inputs (LOP3) a second
// b1, int8      outputs a second of one matrix instruction, D[i, j] += pop(A[i] & B[j]) over K bits, or the product of
//               int8 over K values; the loop's name ends in its shape, m n k
//
// Loops are over registers, eight independent chains a thread, so that neither latency nor memory shows; each is timed
// as the median of 7 launches of about 5 ms, for several numbers of warps, and the best counts. per_clock: operations
// (outputs) a clock and multiprocessor, by the clock counter of block 0. Every loop's result is compared with the
// host's first; one that differs says "checked": false and no pace. A line is flushed as soon as it is known, so that a
// loop that fails takes none of those before with it: the warp-group instruction, whose shared memory is described by
// hand, comes last.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "gpu_limit_loops.cuh"

namespace {

constexpr int kRepeats = 7;
constexpr double kSeconds = 5e-3;

void stop_on(cudaError_t status, const char* where) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", where, cudaGetErrorString(status));
  std::exit(1);
}

struct Result {
  const char* what;
  const char* loop;
  const char* unit;
  double pace = 0, per_clock = 0;
  bool checked = false;
};

void print(const Result& result) {
  std::printf("{\"what\": \"%s\", \"loop\": \"%s\", \"unit\": \"%s\", ", result.what, result.loop, result.unit);
  std::printf("\"pace\": %.6g, \"per_clock\": %.6g, ", result.checked ? result.pace : 0.0,
              result.checked ? result.per_clock : 0.0);
  std::printf("\"checked\": %s}\n", result.checked ? "true" : "false");
  std::fflush(stdout);
}

class Bench {
 public:
  Bench() {
    stop_on(cudaEventCreate(&begin_), "event"), stop_on(cudaEventCreate(&end_), "event");
    stop_on(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "device");
    stop_on(cudaMalloc(&results, kResultBytes), "results"), stop_on(cudaMalloc(&clocks, sizeof(long long)), "clocks");
  }

  // Seconds of one call: the median, after one untimed.
  template <class Run>
  double seconds(Run run, int repeats = kRepeats) {
    run();
    std::vector<float> times;
    for (int i = 0; i < repeats; ++i) {
      stop_on(cudaEventRecord(begin_), "record");
      run();
      stop_on(cudaEventRecord(end_), "record");
      stop_on(cudaEventSynchronize(end_), "run");
      times.push_back(0);
      stop_on(cudaEventElapsedTime(&times.back(), begin_, end_), "time");
    }
    stop_on(cudaGetLastError(), "launch");
    std::sort(times.begin(), times.end());
    return 1e-3 * times[times.size() / 2];
  }

  // run(blocks, threads, rounds) on as many blocks as there are multiprocessors, times 1 to 4, all at once; `outputs` a
  // warp and round.
  template <class Run>
  void registers(Result& result, double outputs, int least_threads, int most_threads, Run run) {
    for (int threads = least_threads; threads <= most_threads; threads *= 2) {
      for (int a_multiprocessor : {1, 2, 4}) {
        if (threads * a_multiprocessor > kResident) continue;
        const int blocks = a_multiprocessor * multiprocessors;
        const double trial = seconds([&] { run(blocks, threads, 1024); }, 3);
        const int rounds = static_cast<int>(std::min(1e7, std::max(1024.0, 1024 * kSeconds / trial)));
        const double once = seconds([&] { run(blocks, threads, rounds); });
        long long cycles = 0;
        stop_on(cudaMemcpy(&cycles, clocks, sizeof cycles, cudaMemcpyDeviceToHost), "clocks");
        const double done = outputs * rounds * (threads / 32) * a_multiprocessor;
        if (done * multiprocessors / once > result.pace) {
          result.pace = done * multiprocessors / once, result.per_clock = done / static_cast<double>(cycles);
        }
      }
    }
  }

  static constexpr int kResident = 1024;  // threads that fit into a multiprocessor with 64 registers each
  static constexpr size_t kResultBytes = size_t{64} << 20;
  int multiprocessors = 0;
  void* results = nullptr;
  long long* clocks = nullptr;

 private:
  cudaEvent_t begin_, end_;
};

void measure_memory(Bench& bench) {
  size_t free_bytes = 0, total = 0;
  stop_on(cudaMemGetInfo(&free_bytes, &total), "memory");
  const size_t bytes = std::min(size_t{4} << 30, free_bytes / 3) / 4096 * 4096;
  const auto n = static_cast<int64_t>(bytes / sizeof(uint4));
  uint4 *from = nullptr, *to = nullptr;
  stop_on(cudaMalloc(&from, bytes), "memory"), stop_on(cudaMalloc(&to, bytes), "memory");
  stop_on(cudaMemset(from, 1, bytes), "fill"), stop_on(cudaMemset(to, 0, bytes), "fill");
  auto* sum = static_cast<uint32_t*>(bench.results);

  Result read{"read", "16 bytes a load", "bytes"};
  const auto wanted = static_cast<uint32_t>(bytes / 4 * 0x01010101ull);
  const auto sum_up = [&] {
    stop_on(cudaMemset(sum, 0, 4), "fill");
    read_kernel<8><<<bench.multiprocessors, 256>>>(from, n, sum);
    uint32_t found = 0;
    stop_on(cudaMemcpy(&found, sum, 4, cudaMemcpyDeviceToHost), "read");
    return found;
  };
  read.checked = sum_up() == wanted;
  for (int blocks = 2; blocks <= 64; blocks *= 2) {
    const int grid = blocks * bench.multiprocessors;
    for (const double once : {bench.seconds([&] { read_kernel<4><<<grid, 256>>>(from, n, sum); }),
                              bench.seconds([&] { read_kernel<8><<<grid, 256>>>(from, n, sum); })}) {
      read.pace = std::max(read.pace, static_cast<double>(bytes) / once);
    }
  }
  print(read);

  Result copy{"copy", "kernel, 16 bytes a load", "bytes"};
  copy_kernel<4><<<bench.multiprocessors, 256>>>(from, to, n);
  std::swap(from, to);
  copy.checked = sum_up() == wanted;
  std::swap(from, to);
  for (int blocks = 2; blocks <= 64; blocks *= 2) {
    const int grid = blocks * bench.multiprocessors;
    const double once = bench.seconds([&] { copy_kernel<4><<<grid, 256>>>(from, to, n); });
    copy.pace = std::max(copy.pace, 2.0 * static_cast<double>(bytes) / once);
  }
  print(copy);

  Result runtime{"copy", "cudaMemcpyAsync", "bytes"};
  const double once = bench.seconds(
      [&] { stop_on(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice), "copy"); });
  runtime.pace = 2.0 * static_cast<double>(bytes) / once;
  stop_on(cudaMemset(to, 0, bytes), "fill");
  stop_on(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice), "copy");
  std::swap(from, to);
  runtime.checked = sum_up() == wanted;
  print(runtime);
  stop_on(cudaFree(from), "free"), stop_on(cudaFree(to), "free");
}

template <class Loop>
void measure_registers(Bench& bench) {
  Result result{Loop::kWhat, Loop::kLoop, "operations"};
  auto* found = static_cast<uint32_t*>(bench.results);
  register_kernel<Loop><<<1, 64>>>(100, found, bench.clocks);
  uint32_t last = 0;
  stop_on(cudaMemcpy(&last, found + 63, 4, cudaMemcpyDeviceToHost), Loop::kLoop);
  result.checked = last == on_host<Loop>(63, 100);
  bench.registers(result, 32.0 * Loop::kOutputs, 128, 512, [&](int blocks, int threads, int rounds) {
    register_kernel<Loop><<<blocks, threads>>>(rounds, found, bench.clocks);
  });
  print(result);
}

// Every output of a product of ones is rounds * depth.
bool all_equal(Bench& bench, int threads, int32_t wanted) {
  std::vector<int32_t> found(static_cast<size_t>(2 * threads));
  stop_on(cudaMemcpy(found.data(), bench.results, found.size() * 4, cudaMemcpyDeviceToHost), "product");
  return std::all_of(found.begin(), found.end(), [&](int32_t value) { return value == wanted; });
}

template <class Mma>
void measure_mma(Bench& bench) {
  Result result{Mma::kWhat, Mma::kLoop, "outputs"};
  auto* found = static_cast<int32_t*>(bench.results);
  mma_kernel<Mma><<<1, 64>>>(3, true, found, bench.clocks);
  result.checked = all_equal(bench, 64, 3 * Mma::kDepth);
  bench.registers(result, 16.0 * 8 * kChains, 128, 512, [&](int blocks, int threads, int rounds) {
    mma_kernel<Mma><<<blocks, threads>>>(rounds, false, found, bench.clocks);
  });
  print(result);
}

void measure_group(Bench& bench) {
  Result result{"b1", "wgmma m64n128k256 and.popc", "outputs"};
  auto* found = static_cast<int32_t*>(bench.results);
  group_kernel<<<1, kGroupThreads>>>(3, true, found, bench.clocks);
  result.checked = all_equal(bench, kGroupThreads, 3 * 256);
  bench.registers(result, 64.0 * 128 / 4, kGroupThreads, kGroupThreads, [&](int blocks, int threads, int rounds) {
    group_kernel<<<blocks, threads>>>(rounds, false, found, bench.clocks);
  });
  print(result);
}

}  // namespace

int main() {
  Bench bench;
  int major = 0;
  stop_on(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "device");
  measure_memory(bench);
  measure_registers<Popc>(bench);
  measure_registers<Logic>(bench);
  if (major >= 8) {
    measure_mma<Bits128>(bench);
    measure_mma<Bits256>(bench);
    measure_mma<Int8>(bench);
  }
  if (major == 9) measure_group(bench);
  return 0;
}
