// Kernels that ask the interpreter itself: which launches it accepts, how it converts 16-bit floats (tests/cuda/test_simt.py). And
// parts of ops that no op uses in every way it can be used.
#include "../cuda/launch.h"
#include "../cuda/mma.h"
#include "../cuda/value_counts.h"
#include "arguments.h"

namespace dshc::simt {
namespace {

using cuda::launch;

constexpr int kThreads = 96;

__global__ void nothing() {}

int run_launch(Request& request) {
  const auto size = [&](const char* name) { return static_cast<unsigned>(request.integer(name)); };
  return launch(nothing, dim3(size("grid_x"), size("grid_y"), size("grid_z")),
                dim3(size("block_x"), size("block_y"), size("block_z")), static_cast<size_t>(request.integer("shared")),
                nullptr);
}

// The conversions of 16-bit floats, one value per thread.
__global__ void convert(const float* values, const __half* half_values, const __nv_bfloat16* bfloat_values, int n,
                        __half* halves, __nv_bfloat16* bfloats, float* from_halves, float* from_bfloats) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  halves[i] = __float2half_rn(values[i]);
  bfloats[i] = __float2bfloat16_rn(values[i]);
  from_halves[i] = __half2float(half_values[i]);
  from_bfloats[i] = __bfloat162float(bfloat_values[i]);
}

int run_convert(Request& request) {
  const int n = static_cast<int>(request.integer("n"));
  return launch(convert, dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads)), dim3(kThreads), 0, nullptr,
                request.array<const float>("values"), request.array<const __half>("half_values"),
                request.array<const __nv_bfloat16>("bfloat_values"), n, request.array<__half>("halves"),
                request.array<__nv_bfloat16>("bfloats"), request.array<float>("from_halves"),
                request.array<float>("from_bfloats"));
}

// One product of a warp: a [32, 2 * kWords], b [32, kWords], sums [32, 4] by lanes; sums come in as c and go out as d.
template <int kWords>
__global__ void product(const uint32_t* a, const uint32_t* b, int* sums) {
  uint32_t rows[2 * kWords], columns[kWords];
  int of_lane[4];
  for (int i = 0; i < 2 * kWords; ++i) rows[i] = a[threadIdx.x * 2 * kWords + i];
  for (int i = 0; i < kWords; ++i) columns[i] = b[threadIdx.x * kWords + i];
  for (int i = 0; i < 4; ++i) of_lane[i] = sums[threadIdx.x * 4 + i];
  cuda::multiply_bits<kWords>(of_lane, rows, columns, of_lane);
  for (int i = 0; i < 4; ++i) sums[threadIdx.x * 4 + i] = of_lane[i];
}

int run_product(Request& request) {
  auto* kernel = request.integer("n_words") == 1 ? product<1> : product<2>;
  return launch(kernel, dim3(1), dim3(static_cast<unsigned>(request.integer("lanes"))), 0, nullptr,
                request.array<const uint32_t>("a"), request.array<const uint32_t>("b"), request.array<int>("sums"));
}

// Rank values counted of every item_step-th item, for queries that need it.
int run_count_values(Request& request) {
  const Pairs all = pairs(request);
  cuda::ValueCounts counts{};
  counts.items = request.array<int64_t>("items");
  counts.relevant = request.array<int64_t>("relevant");
  counts.n_columns = 8 * all.n_bytes + 1;
  counts.needed = request.array<const int32_t>("needed");
  const int64_t bytes = all.n_query * counts.n_columns * static_cast<int64_t>(sizeof(int64_t));
  cuda::fill_zero(counts.items, bytes, nullptr);
  if (counts.relevant) cuda::fill_zero(counts.relevant, bytes, nullptr);
  Pairs visited = all;
  visited.n_db = cuda::divide_up(all.n_db, request.integer("item_step"));
  cuda::RowPlan plan = cuda::plan_rows(visited);
  plan.item_step = request.integer("item_step");
  return cuda::for_each_chunk(visited, plan, [&](const cuda::RowPlan& chunk) {
    return cuda::count_values(visited, relevance(request), chunk, counts, nullptr);
  });
}

}  // namespace

const std::map<std::string, Op>& probe_ops() {
  static const std::map<std::string, Op> ops{
      {"launch", run_launch}, {"convert", run_convert}, {"count_values", run_count_values}, {"product", run_product}};
  return ops;
}

}  // namespace dshc::simt
