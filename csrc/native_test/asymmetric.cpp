// asymmetric_topk for all float types against a plain sort of plain sums, to the bit.
#include "../core/asymmetric_topk.h"

#include <vector>

#include "typed.h"

namespace dshc::test {
namespace {

struct Shape {
  int64_t n_query, n_db;
  int32_t n_bits;
  int64_t stride;  // beyond the code's bytes
};

float distance(const float* outputs, int32_t n_bits, const uint8_t* code) {
  float sum = 0.0f;
  for (int32_t byte = 0; 8 * byte < n_bits; ++byte) {
    float w[8] = {};
    for (int32_t bit = 0; bit < 8 && 8 * byte + bit < n_bits; ++bit) {
      const float output = outputs[8 * byte + bit];
      if (!std::isnan(output) && (output > 0.0f) != ((code[byte] >> bit & 1) != 0)) w[bit] = std::fabs(output);
    }
    sum += ((w[0] + w[1]) + (w[2] + w[3])) + ((w[4] + w[5]) + (w[6] + w[7]));
  }
  return sum;
}

// Numbers of all sizes, zeros of both signs, now and then an infinity; whole numbers in half of the cases, so that items tie.
Typed make_outputs(Random& random, DType dtype, int64_t n) {
  Typed outputs(dtype, n);
  const bool whole = random.below(2) == 0;
  for (int64_t i = 0; i < n; ++i) {
    const double value = random.uniform(-2, 2), sizes[] = {1, 1, 1, 1e-3, 1e-41, 0};
    outputs.set_value(i, whole ? std::nearbyint(value) : value * sizes[random.below(6)]);
    if (random.below(60) == 0) outputs.set_value(i, value > 0 ? INFINITY : -INFINITY);
  }
  return outputs;
}

void check(Random& random, const Shape& shape, DType dtype, int64_t k, bool masked, bool of_each) {
  const int32_t n_bytes = (shape.n_bits + 7) / 8;
  const int64_t stride = n_bytes + shape.stride, n_values = shape.n_query * shape.n_bits;
  Typed outputs = make_outputs(random, dtype, n_values);
  Exact<uint8_t> codes((shape.n_db - 1) * stride + n_bytes);
  for (int64_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(random.next());
  const int64_t row = of_each ? (shape.n_db + 7) / 8 : 0;
  Exact<uint8_t> allowed((of_each ? shape.n_query : 1) * ((shape.n_db + 7) / 8));
  for (int64_t i = 0; i < allowed.size(); ++i) allowed[i] = static_cast<uint8_t>(random.next() & random.next());
  std::vector<float> floats(static_cast<size_t>(n_values));
  for (int64_t i = 0; i < n_values; ++i) floats[static_cast<size_t>(i)] = static_cast<float>(outputs.value(i));
  Exact<float> wanted_distances(shape.n_query * k);
  Exact<int64_t> wanted_indices(shape.n_query * k);
  for (int64_t q = 0; q < shape.n_query; ++q) {
    std::vector<std::pair<float, int64_t>> items;
    for (int64_t i = 0; i < shape.n_db; ++i) {
      if (masked && !(allowed[q * row + i / 8] >> (i % 8) & 1)) continue;
      items.emplace_back(distance(floats.data() + q * shape.n_bits, shape.n_bits, codes.data() + i * stride), i);
    }
    std::sort(items.begin(), items.end());
    for (int64_t i = 0; i < k; ++i) {
      const bool there = i < static_cast<int64_t>(items.size());
      wanted_distances[q * k + i] = there ? items[static_cast<size_t>(i)].first : INFINITY;
      wanted_indices[q * k + i] = there ? items[static_cast<size_t>(i)].second : -1;
    }
  }
  const AsymmetricPairs pairs{outputs.data(), dtype, codes.data(), shape.n_query, shape.n_db, stride, shape.n_bits, n_bytes,
                              masked ? allowed.data() : nullptr, row, {}};
  on_every_path([&](int n_threads) {
    Exact<float> distances(wanted_distances.size());
    Exact<int64_t> indices(wanted_indices.size());
    const Status status = cpu::asymmetric_topk(pairs, k, distances.data(), indices.data(), true, n_threads);
    if (status.fault != Fault::none) fail("asymmetric_topk", status.row, "a fault", "none");
    expect_equal("asymmetric_topk", indices, wanted_indices);
    expect_same_bits("asymmetric_topk", distances, wanted_distances);
  });
  if (shape.n_query == 0) return;
  const int64_t first = random.below(shape.n_query);
  outputs.set_value(first * shape.n_bits + random.below(shape.n_bits), NAN);
  outputs.set_value(n_values - 1, NAN);
  on_every_path([&](int n_threads) {
    Exact<float> distances(wanted_distances.size());
    Exact<int64_t> indices(wanted_indices.size());
    const Status status = cpu::asymmetric_topk(pairs, k, distances.data(), indices.data(), true, n_threads);
    if (status.fault != Fault::nan_value || status.row != first) fail("asymmetric_topk", status.row, "no fault", "NaN");
    count("asymmetric_topk, NaN", 1);
  });
}

}  // namespace

void test_asymmetric() {
  Random random(12);
  const Shape shapes[] = {{0, 5, 8, 0},    {1, 1, 1, 0},     {3, 70, 7, 2},    {2, 500, 32, 0},   {3, 300, 61, 1},
                          {2, 9000, 64, 0}, {2, 5000, 65, 0}, {1, 3000, 130, 3}, {2, 400, 256, 0}, {1, 200, 1029, 0},
                          {1, 100, 4096, 0}, {40, 3000, 36, 0}, {1, 70000, 16, 0}, {130, 400, 24, 0}};
  const DType dtypes[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16};
  for (const Shape& shape : shapes) {
    for (const DType dtype : dtypes) {
      for (const int64_t k : {int64_t{1}, std::min<int64_t>(10, shape.n_db), shape.n_db}) {
        if (k > 10 && shape.n_db > 10000 && dtype != DType::float32) continue;
        const bool masked = random.below(2) == 0, of_each = random.below(2) == 0;
        g_progress.example = "dtype " + std::to_string(static_cast<int>(dtype)) + ", " + std::to_string(shape.n_query) + " x " +
                             std::to_string(shape.n_db) + ", " + std::to_string(shape.n_bits) + " bits, k " + std::to_string(k);
        check(random, shape, dtype, k, masked, of_each);
      }
    }
  }
  finish_group("asymmetric");
}

}  // namespace dshc::test
