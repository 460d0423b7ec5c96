#include "block.h"

#include <algorithm>
#include <cstring>

namespace dshc::cpu {

namespace {

// Word w of a code that starts at `code`; `rest`: bytes of the database from there on.
uint64_t padded_word(const uint8_t* code, int32_t n_bytes, int32_t w, int64_t rest) {
  const int32_t bytes = std::min(n_bytes - 8 * w, 8);
  uint64_t word = 0;
  if (rest >= 8 * w + 8) {
    std::memcpy(&word, code + 8 * w, 8);
    return bytes == 8 ? word : word & ((uint64_t{1} << 8 * bytes) - 1);
  }
  std::memcpy(&word, code + 8 * w, static_cast<size_t>(bytes));
  return word;
}

}  // namespace

BlockColumns::BlockColumns(const Plan& plan, const WalkPlan& walk, const Pairs& pairs)
    : pairs_(pairs),
      kernels_(*plan.level->codes),
      shape_(pairs.n_bytes),
      in_place_(walk.in_place),
      block_(walk.block_items) {}

const uint8_t* BlockColumns::arranged(const FilterRow& row, const FilterPass& pass) {
  if (!nibbles_) nibbles_.reset(new Line[static_cast<size_t>(block_ * n_nibbles(pairs_.n_bytes) / 64)]);
  uint8_t* nibbles = reinterpret_cast<uint8_t*>(nibbles_.get());
  if (!is_arranged_) row.arrange(pass, nibbles);
  is_arranged_ = true;
  return nibbles;
}

const uint8_t* BlockColumns::load(int64_t first, int64_t n) {
  const int32_t n_bytes = pairs_.n_bytes, n_words = shape_.n_words;
  const uint8_t* codes = pairs_.database + first * n_bytes;
  const bool whole_words = n_bytes == shape_.code_bytes();
  if (in_place_) return codes;
  is_arranged_ = false;
  if (!columns_) columns_.reset(new Line[static_cast<size_t>(block_ * shape_.code_bytes() / 64)]);
  uint64_t* columns = columns_[0].words;
  const int64_t all = (pairs_.n_db - first) * n_bytes;
  if (whole_words && n_words == 1) {
    std::memcpy(columns, codes, static_cast<size_t>(n * n_bytes));
  } else if (shape_.word_bytes == 4) {
    auto* halves = reinterpret_cast<uint32_t*>(columns);
    for (int64_t i = 0; i < n; ++i) {
      halves[i] = static_cast<uint32_t>(padded_word(codes + i * n_bytes, n_bytes, 0, all - i * n_bytes));
    }
  } else if (whole_words) {
    kernels_.to_columns(codes, n, n_words, columns, block_);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      for (int32_t w = 0; w < n_words; ++w) {
        columns[w * block_ + i] = padded_word(codes + i * n_bytes, n_bytes, w, all - i * n_bytes);
      }
    }
  }
  return reinterpret_cast<const uint8_t*>(columns);
}

std::vector<uint64_t> query_words(const Pairs& pairs, int64_t begin, int64_t end) {
  const int32_t n_words = WordShape(pairs.n_bytes).n_words;
  std::vector<uint64_t> words(static_cast<size_t>((end - begin) * n_words), 0);
  for (int64_t q = begin; q < end; ++q) {
    // A word of four bytes lies in the first half of its eight.
    std::memcpy(words.data() + (q - begin) * n_words, pairs.queries + q * pairs.n_bytes, static_cast<size_t>(pairs.n_bytes));
  }
  return words;
}

}  // namespace dshc::cpu
