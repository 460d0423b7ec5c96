// pack_codes for all twelve dtypes, and unpack_codes.
#include "../core/pack_codes.h"

#include "../core/unpack_codes.h"
#include "typed.h"

namespace dshc::test {
namespace {

// Zeros of both signs, the smallest and largest patterns, infinities by chance, and noise; NaNs only where asked for.
Typed make_values(Random& random, DType dtype, int64_t n) {
  Typed values(dtype, n);
  const uint64_t sign = uint64_t{1} << (8 * size_of(dtype) - 1);
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t patterns[] = {0, 1, sign, sign - 1, sign + 1, ~uint64_t{0}, random.next(), random.next()};
    values.set_bits(i, patterns[random.below(8)]);
    if (is_float(dtype) && std::isnan(values.value(i))) values.set_value(i, random.below(2) ? INFINITY : -INFINITY);
  }
  return values;
}

void check_pack(const Typed& values, int64_t n, int64_t n_bits, int64_t first_nan) {
  const int64_t n_bytes = (n_bits + 7) / 8;
  Exact<uint8_t> wanted(n * n_bytes);
  for (int64_t i = 0; i < n * n_bits; ++i) {
    const int64_t row = i / n_bits, bit = i % n_bits;
    if (values.value(i) > 0) wanted[row * n_bytes + bit / 8] |= static_cast<uint8_t>(1u << (bit % 8));
  }
  on_every_path([&](int n_threads) {
    for (const bool check : {true, false}) {
      Exact<uint8_t> codes(wanted.size());
      for (int64_t i = 0; i < codes.size(); ++i) codes[i] = 0xA5;  // padding must be written, too
      const Status status = cpu::pack_codes(values.data(), values.dtype(), n, n_bits, codes.data(), check, n_threads);
      const bool fault = check && first_nan >= 0;
      expect_status("pack_codes", status, fault ? Fault::nan_value : Fault::none, fault ? first_nan : -1);
      expect_equal("pack_codes", codes, wanted);
    }
  });
}

void check_unpack(Random& random, int64_t n, int64_t n_bits, int64_t n_bytes) {
  Exact<uint8_t> codes(n * n_bytes);
  for (int64_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(random.next());
  for (const bool is_signed : {false, true}) {
    Exact<uint8_t> wanted(n * n_bits);
    for (int64_t i = 0; i < wanted.size(); ++i) {
      const int bit = codes[i / n_bits * n_bytes + i % n_bits / 8] >> (i % n_bits % 8) & 1;
      wanted[i] = static_cast<uint8_t>(is_signed ? (bit ? 1 : -1) : bit);
    }
    on_every_path([&](int n_threads) {
      Exact<uint8_t> values(wanted.size());
      cpu::unpack_codes(codes.data(), n, n_bytes, n_bits, is_signed, values.data(), n_threads);
      expect_equal("unpack_codes", values, wanted);
    });
  }
}

}  // namespace

void test_packing() {
  Random random(4);
  const int64_t shapes[][2] = {{0, 8},  {1, 1},  {3, 7},  {2, 8},  {33, 9},  {5, 31}, {4, 32},
                               {4, 33}, {3, 63}, {3, 64}, {3, 65}, {2, 100}, {2, 4096}, {2000, 57}};
  for (const auto& [n, n_bits] : shapes) {
    for (int32_t d = 0; d <= static_cast<int32_t>(DType::uint64); ++d) {
      const auto dtype = static_cast<DType>(d);
      g_progress.example = "dtype " + std::to_string(d) + ", " + std::to_string(n) + " x " + std::to_string(n_bits);
      Typed values = make_values(random, dtype, n * n_bits);
      check_pack(values, n, n_bits, -1);
      if (!is_float(dtype) || n == 0) continue;
      const int64_t first = random.below(n);
      values.set_value(first * n_bits + random.below(n_bits), NAN);
      values.set_value(n * n_bits - 1, NAN);
      check_pack(values, n, n_bits, first);
    }
    check_unpack(random, n, n_bits, (n_bits + 7) / 8);
    check_unpack(random, n, n_bits, (n_bits + 7) / 8 + 2);
  }
  finish_group("packing");
}

}  // namespace dshc::test
