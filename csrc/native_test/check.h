// What all groups of the test program share: exactly sized memory, random numbers, every path through the library, and
// comparisons that end the program at the first difference.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "../cpu/kernels/level.h"

namespace dshc::test {

// Heap memory that ends with its last element, so that AddressSanitizer sees a step beyond it. Bytes begin at an odd
// address: callers may pass codes and masks from anywhere, and UBSan sees who takes them for aligned words.
template <class T>
class Exact {
 public:
  explicit Exact(int64_t n = 0) : n_(n), block_(new T[static_cast<size_t>(n + kShift)]()) {}
  T* data() { return block_.get() + kShift; }
  const T* data() const { return block_.get() + kShift; }
  int64_t size() const { return n_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }

 private:
  static constexpr int64_t kShift = sizeof(T) == 1 ? 1 : 0;
  int64_t n_;
  std::unique_ptr<T[]> block_;
};

// SplitMix64: the same numbers everywhere, unlike the distributions of the standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  double uniform(double low, double high) { return low + (high - low) * (static_cast<double>(next() >> 11) * 0x1p-53); }

 private:
  uint64_t state_;
};

struct Counted {
  int64_t results = 0, values = 0;
};

struct Progress {
  std::string example;  // what the inputs are, for the message of a failure
  const char* level = "";
  int n_threads = 1;
  std::map<std::string, Counted> counted;
};

inline Progress g_progress;

[[noreturn]] inline void fail(const char* op, int64_t at, const std::string& got, const std::string& wanted) {
  std::printf("MISMATCH in %s, element %lld: got %s, wanted %s (level %s, %d threads; %s)\n", op,
              static_cast<long long>(at), got.c_str(), wanted.c_str(), g_progress.level, g_progress.n_threads,
              g_progress.example.c_str());
  std::fflush(stdout);
  std::exit(1);
}

inline void count(const char* op, int64_t n_values) {
  Counted& counted = g_progress.counted[op];
  ++counted.results;
  counted.values += n_values;
}

// One line for each op the group has checked. Without any check a group would pass for the wrong reason.
inline void finish_group(const char* group) {
  if (g_progress.counted.empty()) fail(group, 0, "no checks", "some");
  for (const auto& [op, counted] : g_progress.counted) {
    std::printf("%-26s %8lld results, %11lld values agree\n", op.c_str(), static_cast<long long>(counted.results),
                static_cast<long long>(counted.values));
  }
  std::fflush(stdout);
  g_progress.counted.clear();
}

inline std::string text(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%.17g", value);
  return buffer;
}
template <class T>
std::string text(T value) { return std::to_string(value); }

template <class T>
void expect_same(const char* op, int64_t at, T got, T wanted) {
  if (got != wanted) fail(op, at, text(got), text(wanted));
}

template <class Got, class Wanted>
void expect_equal(const char* op, const Got& got, const Wanted& wanted) {
  expect_same(op, -1, static_cast<int64_t>(got.size()), static_cast<int64_t>(wanted.size()));
  const int64_t n = static_cast<int64_t>(got.size());
  for (int64_t i = 0; i < n; ++i) {
    if (got.data()[i] != wanted.data()[i]) fail(op, i, text(got.data()[i]), text(wanted.data()[i]));
  }
  count(op, n);
}

// NaN and infinities agree with themselves only.
inline void expect_close(const char* op, int64_t at, double got, double wanted, double tolerance) {
  const bool same = std::isfinite(wanted) ? std::fabs(got - wanted) <= tolerance
                                          : got == wanted || (std::isnan(got) && std::isnan(wanted));
  if (!same) fail(op, at, text(got), text(wanted) + " within " + text(tolerance));
}

template <class T>
void expect_same_bits(const char* op, const Exact<T>& got, const Exact<T>& wanted) {
  for (int64_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(got.data() + i, wanted.data() + i, sizeof(T)) != 0) {
      fail(op, i, text(got[i]), text(wanted[i]) + " to the bit, as on the first path");
    }
  }
}

template <class F>
void on_every_level(F f) {
  for (const char* const* level = cpu::simd_levels(); *level; ++level) {
    if (!cpu::set_simd_level(*level)) fail("set_simd_level", 0, "refused", *level);
    g_progress.level = *level;
    f();
  }
  cpu::set_simd_level(nullptr);
}

template <class F>
void on_every_path(F f) {
  on_every_level([&] {
    for (const int n_threads : {1, 3}) {
      g_progress.n_threads = n_threads;
      f(n_threads);
    }
    g_progress.n_threads = 1;
  });
}

void test_kernels();
void test_ranking();
void test_asymmetric();
void test_average_precision();
void test_retrieval_metric();
void test_pairs();
void test_partition();
void test_packing();
void test_logits();
void test_loss();
void test_host_arrays();
void test_plans();
void test_substring_tables();
void test_code_clusters();
void test_stop();

}  // namespace dshc::test
