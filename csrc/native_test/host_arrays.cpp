// The steps of core/host_arrays.h against loops over single values.
#include "../core/host_arrays.h"

#include "typed.h"

namespace dshc::test {
namespace {

void check_narrow(Random& random, DType dtype, int64_t n) {
  if (is_float(dtype)) return;
  const int64_t bits = 8 * size_of(dtype);
  const bool is_signed = dtype <= DType::int64;
  Typed ids(dtype, n);
  Exact<int32_t> wanted(n);
  for (int64_t i = 0; i < n; ++i) {
    // Every value that fits both types, the ends included.
    const int64_t top = std::min<int64_t>(is_signed ? bits - 1 : bits, 31);
    const uint64_t largest = (uint64_t{1} << top) - 1;
    const uint64_t value = random.below(4) ? random.next() & largest : largest;
    const bool negative = is_signed && random.below(2);
    ids.set_bits(i, negative ? ~value : value);
    wanted[i] = negative ? static_cast<int32_t>(-static_cast<int64_t>(value) - 1) : static_cast<int32_t>(value);
  }
  for (const int n_threads : {1, 3}) {
    Exact<int32_t> narrow(n);
    expect_same("narrow_ids", -1, cpu::narrow_ids(ids.data(), dtype, n, narrow.data(), n_threads), true);
    expect_equal("narrow_ids", narrow, wanted);
  }
  if (n == 0 || bits < 32 || dtype == DType::int32) return;
  const uint64_t beyond[] = {uint64_t{1} << 31, 0xFFFFFFFF, uint64_t{1} << 32, ~(uint64_t{1} << 31), uint64_t{1} << 63};
  for (const uint64_t value : beyond) {
    const uint64_t shown = bits == 32 ? value & 0xFFFFFFFF : value;
    if (shown < uint64_t{1} << 31) continue;
    const int64_t at = random.below(n);
    const uint64_t before = ids.bits(at);
    ids.set_bits(at, shown);
    Exact<int32_t> narrow(n);
    expect_same("narrow_ids", at, cpu::narrow_ids(ids.data(), dtype, n, narrow.data(), 3), false);
    ids.set_bits(at, before);
  }
}

void set_small(Typed& values, int64_t i, int value) {
  is_float(values.dtype()) ? values.set_value(i, value) : values.set_bits(i, static_cast<uint64_t>(value));
}

void check_multi_hot(Random& random, DType dtype, int64_t n, int64_t n_labels) {
  const int64_t n_words = (n_labels + 63) / 64;
  Typed labels(dtype, n * n_labels);
  Exact<uint64_t> wanted(n * n_words);
  for (int64_t i = 0; i < labels.size(); ++i) {
    const int value = random.below(3) == 0;
    set_small(labels, i, value);
    wanted[i / n_labels * n_words + i % n_labels / 64] |= static_cast<uint64_t>(value) << (i % n_labels % 64);
  }
  if (is_float(dtype) && labels.size() > 0 && labels.value(0) == 0.0) labels.set_value(0, -0.0);
  const auto run = [&](int64_t first_wrong) {
    for (const int n_threads : {1, 3}) {
      Exact<uint64_t> words(n * n_words);
      expect_same("multi_hot_words", -1,
                  cpu::multi_hot_words(labels.data(), dtype, n, n_labels, words.data(), n_threads), first_wrong);
      expect_equal("multi_hot_words", words, wanted);
    }
  };
  run(-1);
  if (n == 0) return;
  const int64_t at = random.below(labels.size());
  set_small(labels, at, 2);
  set_small(labels, labels.size() - 1, 3);
  for (const int64_t i : {at, labels.size() - 1}) {
    wanted[i / n_labels * n_words + i % n_labels / 64] |= uint64_t{1} << (i % n_labels % 64);
  }
  run(at / n_labels);
}

void check_rows(Random& random, int64_t n, int64_t n_bytes, int64_t n_wider, int64_t stride) {
  Exact<uint8_t> rows(n == 0 ? 0 : (n - 1) * stride + n_bytes), wanted(n * n_wider);
  for (int64_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint8_t>(random.next());
  int largest = 0;
  for (int64_t i = 0; i < n * n_bytes; ++i) {
    wanted[i / n_bytes * n_wider + i % n_bytes] = rows[i / n_bytes * stride + i % n_bytes];
    if (i % n_bytes == n_bytes - 1) largest = std::max<int>(largest, rows[i / n_bytes * stride + i % n_bytes]);
  }
  for (const int n_threads : {1, 3}) {
    Exact<uint8_t> wider(n * n_wider);
    cpu::widen_rows(rows.data(), n, n_bytes, stride, wider.data(), n_wider, n_threads);
    expect_equal("widen_rows", wider, wanted);
    expect_same("largest_byte", -1, cpu::largest_byte(rows.data() + (n ? n_bytes - 1 : 0), n, stride, n_threads), largest);
    count("largest_byte", 1);
  }
}

}  // namespace

void test_host_arrays() {
  Random random(8);
  for (int32_t d = 0; d <= static_cast<int32_t>(DType::uint64); ++d) {
    const auto dtype = static_cast<DType>(d);
    for (const int64_t n : {0, 1, 7, 300'000}) {
      g_progress.example = "dtype " + std::to_string(d) + ", " + std::to_string(n) + " ids";
      check_narrow(random, dtype, n);
    }
    const int64_t shapes[][2] = {{0, 5}, {1, 1}, {3, 63}, {3, 64}, {2, 65}, {5, 129}, {20'000, 20}};
    for (const auto& [n, n_labels] : shapes) {
      g_progress.example = "dtype " + std::to_string(d) + ", " + std::to_string(n) + " x " + std::to_string(n_labels);
      check_multi_hot(random, dtype, n, n_labels);
    }
  }
  for (const int64_t n : {0, 1, 5, 100'000}) {
    for (const int64_t n_bytes : {1, 3, 8}) {
      for (const int64_t more : {0, 1, 5}) {
        g_progress.example = std::to_string(n) + " rows of " + std::to_string(n_bytes) + " bytes, " + std::to_string(more);
        check_rows(random, n, n_bytes, n_bytes + more, n_bytes);
        check_rows(random, n, n_bytes, n_bytes + more, n_bytes + 2);
      }
    }
  }
  finish_group("host arrays");
}

}  // namespace dshc::test
