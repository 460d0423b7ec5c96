// Stand-ins for the part of CUDA that csrc/cuda uses, so that its files compile as C++ and run on the CPU, for tests.
//
// launch.h includes this file in the place of <cuda_runtime.h> where DSHC_SIMT is defined. What a kernel may use is what is
// here; where CUDA has overloads for few types only (atomics), so has this. There is no `__shared__`: a static array would
// lie where AddressSanitizer cannot see its end, so shared memory is dynamic.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "scheduler.h"
#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)

// Of the running thread; the scheduler sets them whenever another one goes on.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace dshc::simt {

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class To, class From>
To reinterpret(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return from_bits<To>(to_bits(value));
}

template <class T, class Change>
T atomic(T* address, Change change) {
  before_atomic(address);
  const T old = *address;
  *address = change(old);
  after_atomic(address);
  return old;
}

template <class T, class... Choices>
constexpr bool is_one_of = (std::is_same_v<T, Choices> || ...);

template <class T>
constexpr bool is_atomic_integer = is_one_of<T, int, unsigned, unsigned long long>;

}  // namespace dshc::simt

namespace dshc::cuda {

// The block's dynamic shared memory.
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(simt::shared_memory());
}

// kernel<<<grid, block, shared_bytes>>>(arguments...), complete when it returns; the stream has no meaning here.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, void* /*stream*/,
           Arguments... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> parameters;
  } call{kernel, {static_cast<Parameters>(arguments)...}};
  const auto run = [](void* p) { std::apply(static_cast<Call*>(p)->kernel, static_cast<Call*>(p)->parameters); };
  return simt::run_grid({reinterpret_cast<const void*>(kernel), {grid.x, grid.y, grid.z}, {block.x, block.y, block.z},
                         shared_bytes, run, &call});
}

}  // namespace dshc::cuda

// ---- barriers, votes, shuffles ----

inline void __syncthreads(dshc::simt::Where where = {}) {
  dshc::simt::barrier(dshc::simt::Barrier::plain, false, where);
}
inline int __syncthreads_or(int predicate, dshc::simt::Where where = {}) {
  return dshc::simt::barrier(dshc::simt::Barrier::any, predicate != 0, where);
}
inline int __syncthreads_and(int predicate, dshc::simt::Where where = {}) {
  return dshc::simt::barrier(dshc::simt::Barrier::all, predicate != 0, where);
}
inline int __syncthreads_count(int predicate, dshc::simt::Where where = {}) {
  return dshc::simt::barrier(dshc::simt::Barrier::count, predicate != 0, where);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, dshc::simt::Where where = {}) {
  dshc::simt::warp_operation(dshc::simt::WarpOp::sync, mask, 0, 0, 0, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return static_cast<unsigned>(warp_operation(WarpOp::ballot, mask, predicate != 0, 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return static_cast<int>(warp_operation(WarpOp::any, mask, predicate != 0, 0, 0, where));
}
inline int __all_sync(unsigned mask, int predicate, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return static_cast<int>(warp_operation(WarpOp::all, mask, predicate != 0, 0, 0, where));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return static_cast<unsigned>(warp_operation(WarpOp::match_any, mask, to_bits(value), 0, 0, where));
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return from_bits<T>(warp_operation(WarpOp::shuffle, mask, to_bits(value), lane, width, where));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return from_bits<T>(
      warp_operation(WarpOp::shuffle_up, mask, to_bits(value), static_cast<int>(delta), width, where));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return from_bits<T>(
      warp_operation(WarpOp::shuffle_down, mask, to_bits(value), static_cast<int>(delta), width, where));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, dshc::simt::Where where = {}) {
  using namespace dshc::simt;
  return from_bits<T>(warp_operation(WarpOp::shuffle_xor, mask, to_bits(value), lane_mask, width, where));
}

// ---- atomics: the overloads CUDA has, no others (uint64_t is `unsigned long` and has none) ----

template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T> || std::is_floating_point_v<T>>>
T atomicAdd(T* address, std::common_type_t<T> value) {
  // In an unsigned type: a counter may wrap, as it does on the GPU.
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return dshc::simt::atomic(address, [&](T old) { return static_cast<T>(static_cast<U>(old) + static_cast<U>(value)); });
  } else {
    return dshc::simt::atomic(address, [&](T old) { return old + value; });
  }
}
template <class T, class = std::enable_if_t<dshc::simt::is_one_of<T, int, unsigned>>>
T atomicSub(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(
      address, [&](T old) { return static_cast<T>(static_cast<unsigned>(old) - static_cast<unsigned>(value)); });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T> || std::is_same_v<T, long long>>>
T atomicMin(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T old) { return value < old ? value : old; });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T> || std::is_same_v<T, long long>>>
T atomicMax(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T old) { return value > old ? value : old; });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T>>>
T atomicAnd(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T old) { return old & value; });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T>>>
T atomicOr(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T old) { return old | value; });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T>>>
T atomicXor(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T old) { return old ^ value; });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T> || std::is_same_v<T, float>>>
T atomicExch(T* address, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T) { return value; });
}
template <class T, class = std::enable_if_t<dshc::simt::is_atomic_integer<T> || std::is_same_v<T, unsigned short>>>
T atomicCAS(T* address, std::common_type_t<T> compare, std::common_type_t<T> value) {
  return dshc::simt::atomic(address, [&](T old) { return old == compare ? value : old; });
}

inline void __threadfence() { dshc::simt::fence(); }
inline void __threadfence_block() { dshc::simt::fence(); }

// ---- arithmetic ----

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
  return reversed;
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
inline int __float_as_int(float x) { return dshc::simt::reinterpret<int>(x); }
inline unsigned __float_as_uint(float x) { return dshc::simt::reinterpret<unsigned>(x); }
inline float __int_as_float(int x) { return dshc::simt::reinterpret<float>(x); }
inline float __uint_as_float(unsigned x) { return dshc::simt::reinterpret<float>(x); }
inline long long __double_as_longlong(double x) { return dshc::simt::reinterpret<long long>(x); }
inline double __longlong_as_double(long long x) { return dshc::simt::reinterpret<double>(x); }

// Of one type: where the two differ, nvcc converts in ways that are easily read wrongly.
template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
