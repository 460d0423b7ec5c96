#include "../core/host_arrays.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <type_traits>

#include "../common/dtype.h"
#include "call/call.h"
#include "call/threads.h"
#include "logits/first_fault.h"
#include "logits/pack_bits.h"

namespace dshc::cpu {
namespace {

// Calls work(begin, end) for ranges of n rows.
template <class Work>
void over_ranges(int64_t n, double nanoseconds_per_row, int n_threads, Work work) {
  const int64_t n_tasks = task_count(n, nanoseconds_per_row, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) { work(n * task / n_tasks, n * (task + 1) / n_tasks); });
}

template <class T>
bool narrow(const T* ids, int64_t n, int32_t* out, int n_threads) {
  std::atomic<bool> all_fit{true};
  over_ranges(n, 0.5, n_threads, [&](int64_t begin, int64_t end) {
    bool fit = true;
    for (int64_t i = begin; i < end; ++i) {
      out[i] = static_cast<int32_t>(ids[i]);
      if constexpr (std::is_unsigned_v<T> && sizeof(T) >= 4) {
        fit &= ids[i] <= static_cast<T>(std::numeric_limits<int32_t>::max());
      } else if constexpr (sizeof(T) == 8) {
        fit &= out[i] == ids[i];
      }
    }
    if (!fit) all_fit = false;
  });
  return all_fit;
}

template <class T>
bool is_one(T value) { return value == 1; }
template <class T>
bool is_zero(T value) { return value == 0; }

// float16 and bfloat16 by their bits.
template <uint16_t kOne>
struct Half {
  uint16_t bits;
};
template <uint16_t kOne>
bool is_one(Half<kOne> value) { return value.bits == kOne; }
template <uint16_t kOne>
bool is_zero(Half<kOne> value) { return (value.bits & 0x7FFF) == 0; }

template <class T>
int64_t multi_hot(const T* labels, int64_t n, int64_t n_labels, uint64_t* words, int n_threads) {
  const int64_t n_words = (n_labels + 63) / 64, n_bytes = (n_labels + 7) / 8;
  FirstFault first_wrong;
  over_ranges(n, static_cast<double>(n_labels) * 0.3, n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      auto* bytes = reinterpret_cast<uint8_t*>(words + row * n_words);
      const T* from = labels + row * n_labels;
      bool wrong = false;
      pack_row(n_labels, bytes, [&](int64_t j) {
        const bool zero = is_zero(from[j]);
        wrong |= !zero & !is_one(from[j]);
        return !zero;
      });
      std::memset(bytes + n_bytes, 0, static_cast<size_t>(8 * n_words - n_bytes));
      if (wrong) first_wrong.note(row);
    }
  });
  return first_wrong.found() ? first_wrong.as(Fault::none).row : -1;
}

// Calls use(the array as what it holds), halves by their bits.
template <class Use>
auto with_type(const void* values, DType dtype, Use use) {
  switch (dtype) {
    case DType::float32: return use(static_cast<const float*>(values));
    case DType::float64: return use(static_cast<const double*>(values));
    case DType::float16: return use(static_cast<const Half<0x3C00>*>(values));
    case DType::bfloat16: return use(static_cast<const Half<0x3F80>*>(values));
    case DType::int8: return use(static_cast<const int8_t*>(values));
    case DType::int16: return use(static_cast<const int16_t*>(values));
    case DType::int32: return use(static_cast<const int32_t*>(values));
    case DType::int64: return use(static_cast<const int64_t*>(values));
    case DType::uint8: return use(static_cast<const uint8_t*>(values));
    case DType::uint16: return use(static_cast<const uint16_t*>(values));
    case DType::uint32: return use(static_cast<const uint32_t*>(values));
    case DType::uint64: break;
  }
  return use(static_cast<const uint64_t*>(values));
}

}  // namespace

bool narrow_ids(const void* ids, DType dtype, int64_t n, int32_t* out, int n_threads) {
  const Call call;
  return with_type(ids, dtype, [&](const auto* typed) {
    if constexpr (std::is_integral_v<std::decay_t<decltype(*typed)>>) return narrow(typed, n, out, n_threads);
    return false;
  });
}

int64_t multi_hot_words(const void* labels, DType dtype, int64_t n, int64_t n_labels, uint64_t* words, int n_threads) {
  const Call call;
  return with_type(labels, dtype,
                   [&](const auto* typed) { return multi_hot(typed, n, n_labels, words, n_threads); });
}

void widen_rows(const uint8_t* rows, int64_t n, int64_t n_bytes, int64_t row_stride, uint8_t* wider, int64_t n_wider,
                int n_threads) {
  const Call call;
  const size_t size = static_cast<size_t>(n_bytes), padding = static_cast<size_t>(n_wider - n_bytes);
  over_ranges(n, 3.0 + 0.1 * static_cast<double>(n_wider), n_threads, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(wider + row * n_wider, rows + row * row_stride, size);
      std::memset(wider + row * n_wider + n_bytes, 0, padding);
    }
  });
}

int largest_byte(const uint8_t* bytes, int64_t n, int64_t stride, int n_threads) {
  const Call call;
  std::atomic<int> largest{0};
  over_ranges(n, 1.0, n_threads, [&](int64_t begin, int64_t end) {
    int mine = 0;
    for (int64_t i = begin; i < end; ++i) mine = std::max<int>(mine, bytes[i * stride]);
    int seen = largest.load(std::memory_order_relaxed);
    while (mine > seen && !largest.compare_exchange_weak(seen, mine, std::memory_order_relaxed)) {
    }
  });
  return largest;
}

}  // namespace dshc::cpu
