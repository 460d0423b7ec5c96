// The inner loops by themselves, at every small length: where a vector loop ends and its tail begins.
#include <vector>

#include "typed.h"

namespace dshc::test {
namespace {

void check_rank_row(Random& random) {
  for (const int32_t stride : {4, 8, 16, 24, 32, 40, 48, 56, 64, 72, 128, 136, 504, 512}) {
    for (const int64_t n : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 64, 100}) {
      for (const Score score : {Score::hamming, Score::overlap}) {
        g_progress.example = "stride " + std::to_string(stride) + ", n " + std::to_string(n);
        Exact<uint8_t> query(stride), codes(n * stride);
        const bool full = n % 2 != 0;  // with a query of ones, counts reach 8 * stride
        for (int32_t i = 0; i < stride; ++i) query[i] = full ? 0xFF : static_cast<uint8_t>(random.next());
        for (int64_t i = 0; i < n; ++i) {
          const int64_t kind = random.below(3);
          for (int32_t b = 0; b < stride; ++b) {
            codes[i * stride + b] = kind == 0 ? 0 : kind == 1 ? 0xFF : static_cast<uint8_t>(random.next());
          }
        }
        Exact<uint16_t> wanted(n);
        for (int64_t i = 0; i < n; ++i) {
          int sum = 0;
          for (int32_t bit = 0; bit < 8 * stride; ++bit) {
            const int a = query[bit / 8] >> (bit % 8) & 1, b = codes[i * stride + bit / 8] >> (bit % 8) & 1;
            sum += score == Score::hamming ? a != b : a && b;
          }
          wanted[i] = static_cast<uint16_t>(score == Score::hamming ? sum : 8 * stride - sum);
        }
        on_every_level([&] {
          Exact<uint16_t> row(n);
          const auto top = static_cast<uint16_t>(8 * stride);
          cpu::chosen_level().rank->rank_row(score, query.data(), codes.data(), n, stride, top, row.data());
          expect_equal("kernel rank_row", row, wanted);
        });
      }
    }
  }
}

void check_relevance(Random& random) {
  for (int64_t n = 0; n < 70; ++n) {
    for (const int32_t n_words : {0, 1, 2, 3}) {
      g_progress.example = "n " + std::to_string(n) + ", words " + std::to_string(n_words);
      Exact<int32_t> ids(n);
      Exact<uint64_t> words(n * n_words), query(n_words);
      for (int64_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>(random.below(3)) - 1;
      for (int64_t i = 0; i < words.size(); ++i) words[i] = uint64_t{1} << random.below(64);
      for (int32_t i = 0; i < n_words; ++i) query[i] = random.next() & random.next() & random.next();
      Exact<uint16_t> before(n), wanted(n);
      for (int64_t i = 0; i < n; ++i) {
        bool relevant = n_words == 0 && ids[i] == -1;
        for (int32_t w = 0; w < n_words; ++w) relevant |= (words[i * n_words + w] & query[w]) != 0;
        before[i] = static_cast<uint16_t>(random.below(4097));
        wanted[i] = static_cast<uint16_t>(before[i] + (relevant ? 4097 : 0));
      }
      on_every_level([&] {
        Exact<uint16_t> row(n);
        for (int64_t i = 0; i < n; ++i) row[i] = before[i];
        if (n_words == 0) {
          cpu::chosen_level().rank->add_relevance_ids(row.data(), ids.data(), -1, n, 4097);
        } else {
          cpu::chosen_level().rank->add_relevance_words(row.data(), words.data(), query.data(), n_words, n, 4097);
        }
        expect_equal("kernel add_relevance", row, wanted);
      });
    }
  }
}

void check_selection(Random& random) {
  constexpr uint16_t kMark = 65535;
  for (int64_t n = 0; n < 140; ++n) {
    for (const int64_t n_values : {3, 40, 65536}) {
      g_progress.example = "n " + std::to_string(n) + ", values below " + std::to_string(n_values);
      Exact<uint16_t> row(n);
      for (int64_t i = 0; i < n; ++i) row[i] = random.below(9) ? static_cast<uint16_t>(random.below(n_values)) : kMark;
      const int64_t a = random.below(n_values), b = random.below(n_values + 1);
      const auto low = static_cast<uint16_t>(std::min({a, b, int64_t{kMark}}));
      const auto high = static_cast<uint16_t>(std::min<int64_t>(std::max(a, b), kMark));
      for (const uint16_t from : {uint16_t{0}, low}) {
        std::vector<uint32_t> wanted;
        for (int64_t i = 0; i < n; ++i) {
          if (from <= row[i] && row[i] < high) wanted.push_back(static_cast<uint32_t>(i));
        }
        on_every_level([&] {
          Exact<uint32_t> room(n);
          const int64_t n_found = cpu::chosen_level().rank->select_between(row.data(), n, from, high, room.data());
          const std::vector<uint32_t> found(room.data(), room.data() + n_found);
          expect_equal("kernel select_between", found, wanted);
        });
      }
    }
  }
}

void check_equal_before(Random& random) {
  for (int round = 0; round < 60; ++round) {
    const int64_t n = cpu::kRun * (1 + random.below(4)), n_values = 1 + random.below(5);
    const uint16_t shift = round % 2 ? 4097 : 0;
    g_progress.example = "n " + std::to_string(n) + ", values below " + std::to_string(n_values);
    Exact<uint16_t> row(n);
    std::vector<uint32_t> chosen;
    for (int64_t i = 0; i < n; ++i) {
      const bool relevant = random.below(3) == 0;
      row[i] = static_cast<uint16_t>(random.below(n_values) + (relevant ? shift : 0));
      if (relevant) chosen.push_back(static_cast<uint32_t>(i));
    }
    Exact<uint32_t> positions(static_cast<int64_t>(chosen.size()));
    Exact<uint16_t> wanted(positions.size());
    for (int64_t j = 0; j < positions.size(); ++j) {
      positions[j] = chosen[static_cast<size_t>(j)];
      for (int64_t i = positions[j] / cpu::kRun * cpu::kRun; i < positions[j]; ++i) {
        wanted[j] = static_cast<uint16_t>(wanted[j] + (row[i] == static_cast<uint16_t>(row[positions[j]] - shift)));
      }
    }
    on_every_level([&] {
      Exact<uint16_t> before(positions.size());
      cpu::chosen_level().rank->equal_before(row.data(), positions.data(), positions.size(), shift, before.data());
      expect_equal("kernel equal_before", before, wanted);
    });
  }
}

void check_floats(Random& random) {
  for (int64_t n = 0; n < 100; ++n) {
    g_progress.example = "n " + std::to_string(n);
    Exact<float> values(n);
    for (int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(random.uniform(-100.0, 5.0));
    if (n > 2) values[random.below(n)] = -INFINITY;
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, values[i]);
    const float shift = n > 0 && largest > -INFINITY ? largest : 0.0f;
    double sum = 0.0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(values[i]) - static_cast<double>(shift));
    on_every_level([&] {
      const cpu::FloatKernels& floats = *cpu::chosen_level().floats;
      expect_same("kernel max_value", 0, floats.max_value(values.data(), n), largest);
      expect_close("kernel sum_exp", 0, floats.sum_exp(values.data(), n, shift), sum, 1e-6 * sum);
      Exact<float> out(n), in_place(n);
      floats.scaled_exp(values.data(), n, shift, 0.75f, out.data());
      for (int64_t i = 0; i < n; ++i) {
        const double x = static_cast<double>(values[i]) - static_cast<double>(shift);
        const double wanted = 0.75 * std::exp(x);
        // The difference itself is rounded to a float, half a unit of its last place.
        const double rounding = std::isfinite(x) ? 2e-7 - x * 0x1p-24 : 0.0;
        expect_close("kernel scaled_exp", i, out[i], wanted, rounding * wanted + 1e-37);
        in_place[i] = values[i];
      }
      floats.scaled_exp(in_place.data(), n, shift, 0.75f, in_place.data());
      expect_equal("kernel scaled_exp", in_place, out);
      Exact<float> kept(n);
      expect_same("kernel keep_exp", 0, floats.keep_exp(values.data(), n, shift, kept.data()),
                  floats.sum_exp(values.data(), n, shift));
      floats.multiply(kept.data(), n, 0.75f, kept.data());
      expect_equal("kernel multiply", kept, out);
      expect_same("kernel any_nan", 0, floats.any_nan(values.data(), n), false);
      for (int64_t at = 0; at < n; ++at) {
        Exact<float> with_nan(n);
        for (int64_t i = 0; i < n; ++i) with_nan[i] = i == at ? NAN : values[i];
        expect_same("kernel any_nan", at, floats.any_nan(with_nan.data(), n), true);
        float other = -INFINITY;
        for (int64_t i = 0; i < n; ++i) other = i == at ? other : std::max(other, values[i]);
        expect_same("kernel max_value", at, floats.max_value(with_nan.data(), n), other);
      }
      count("kernel any_nan", n + 1);
      count("kernel max_value", n + 1);
      count("kernel sum_exp", 1);
    });
  }
}

void check_halves() {
  for (const DType dtype : {DType::float16, DType::bfloat16}) {
    for (const int64_t n : {0, 1, 3, 5, 8, 17, 31, 65536}) {
      g_progress.example = "patterns 0 to " + std::to_string(n);
      Exact<uint16_t> halves(n);
      for (int64_t i = 0; i < n; ++i) halves[i] = static_cast<uint16_t>(i);
      on_every_level([&] {
        Exact<float> out(n);
        const cpu::FloatKernels& floats = *cpu::chosen_level().floats;
        (dtype == DType::float16 ? floats.from_float16 : floats.from_bfloat16)(halves.data(), n, out.data());
        for (int64_t i = 0; i < n; ++i) {
          const double wanted = decode_half(halves[i], fraction_bits(dtype));
          expect_close("kernel from_half", i, out[i], wanted, 0.0);
          expect_same("kernel from_half", i, std::signbit(out[i]), (i & 0x8000) != 0);
        }
        count("kernel from_half", n);
      });
    }
  }
}

// To bits, back to values, and into sums of signed weights, to the bit on every level.
void check_bits(Random& random) {
  for (int64_t n_bits = 1; n_bits < 200; ++n_bits) {
    g_progress.example = std::to_string(n_bits) + " bits";
    const int64_t n_bytes = (n_bits + 7) / 8, nan_at = n_bits % 3 ? -1 : random.below(n_bits);
    Exact<float> values(n_bits), all_zero(n_bits);
    Exact<uint8_t> code(n_bytes), zeros_and_ones(n_bits), signs(n_bits);
    for (int64_t i = 0; i < n_bytes; ++i) code[i] = 0;
    for (int64_t j = 0; j < n_bits; ++j) {
      all_zero[j] = 0.0f;
      const float choices[] = {-1.5f, -0.0f, 0.0f, 1e-40f, 2.0f, INFINITY, -INFINITY};
      values[j] = j == nan_at ? NAN : choices[random.below(7)];
      const bool one = values[j] > 0;
      code[j / 8] = static_cast<uint8_t>(code[j / 8] | (one ? 1 << (j % 8) : 0));
      zeros_and_ones[j] = one;
      signs[j] = one ? 1 : 0xFF;
    }
    on_every_level([&] {
      const cpu::BitKernels& kernels = *cpu::chosen_level().bits;
      Exact<uint8_t> packed(n_bytes), unpacked(n_bits), signed_values(n_bits);
      for (const float* thresholds : {static_cast<const float*>(nullptr), static_cast<const float*>(all_zero.data())}) {
        const bool nan = kernels.pack_above(values.data(), thresholds, n_bits, packed.data());
        expect_same("kernel pack_above", n_bits, nan, nan_at >= 0);
        expect_equal("kernel pack_above", packed, code);
      }
      kernels.unpack_bits(code.data(), n_bits, 0, 1, unpacked.data());
      expect_equal("kernel unpack_bits", unpacked, zeros_and_ones);
      kernels.unpack_bits(code.data(), n_bits, 0xFF, 1, signed_values.data());
      expect_equal("kernel unpack_bits", signed_values, signs);
    });
  }
  for (int64_t n_bytes = 1; n_bytes < 40; ++n_bytes) {
    const int64_t n_codes = 1 + random.below(9), n_rows = random.below(2) ? n_codes : 5;
    g_progress.example = std::to_string(n_bytes) + " bytes, " + std::to_string(n_rows) + " of " + std::to_string(n_codes);
    Exact<uint8_t> codebook(n_codes * n_bytes);
    Exact<int64_t> rows(n_rows);
    Exact<float> weights(n_rows), wanted(8 * n_bytes);
    for (int64_t i = 0; i < codebook.size(); ++i) codebook[i] = static_cast<uint8_t>(random.next());
    for (int64_t i = 0; i < n_rows; ++i) {
      rows[i] = random.below(n_codes);
      weights[i] = static_cast<float>(random.below(1000)) / 7.0f;
    }
    for (const bool in_order : {false, true}) {
      if (in_order && n_rows != n_codes) continue;
      for (int64_t j = 0; j < 8 * n_bytes; ++j) {
        float sum = 0.0f;
        for (int64_t i = 0; i < n_rows; ++i) {
          const bool set = codebook[(in_order ? i : rows[i]) * n_bytes + j / 8] >> (j % 8) & 1;
          sum += set ? weights[i] : -weights[i];
        }
        wanted[j] = sum;
      }
      on_every_level([&] {
        Exact<float> sums(8 * n_bytes);
        cpu::chosen_level().bits->signed_sums(codebook.data(), n_bytes, in_order ? nullptr : rows.data(), weights.data(),
                                              n_rows, sums.data());
        expect_equal("kernel signed_sums", sums, wanted);
      });
    }
  }
}

}  // namespace

void test_kernels() {
  Random random(1);
  check_rank_row(random);
  check_relevance(random);
  check_selection(random);
  check_equal_before(random);
  check_floats(random);
  check_halves();
  check_bits(random);
  finish_group("kernels");
}

}  // namespace dshc::test
