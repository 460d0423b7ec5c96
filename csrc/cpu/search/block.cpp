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

Filters choose_filters(const Level& level, const Pairs& pairs, int64_t n_queries) {
  const int32_t width = WordShape(pairs.n_bytes).code_bytes();
  Filters filters;
  int n = 0;
  for (const FilterRow* row = level.filters;; ++row) {
    const bool fits = (row->width == 0 || row->width == width) && (row->scores & score_bit(pairs.score)) &&
                      n_queries >= row->min_queries;
    if (!fits) continue;
    filters.rows[n++] = row;
    if (row->max_bound == kNoMaxBound) return filters;
  }
}

namespace {

// Bytes of an item as a row filters it.
int64_t item_bytes(const FilterRow& row, int32_t n_bytes) { return row.arrange ? 2 * n_bytes : WordShape(n_bytes).code_bytes(); }

int64_t block_items(const FilterRow& row, int32_t n_bytes) {
  const BlockLength& block = row.block;
  return std::clamp(block.bytes / item_bytes(row, n_bytes) / block.multiple * block.multiple, block.multiple, block.most);
}

}  // namespace

BlockColumns::BlockColumns(const Pairs& pairs, const Filters& filters, int64_t n_queries)
    : pairs_(pairs), kernels_(*level().codes), shape_(pairs.n_bytes) {
  constexpr int64_t kWorthCopy = 16, kWorthShortBlocks = 4;  // queries
  in_place_ = !filters.best().arrange && n_queries < kWorthCopy && shape_.n_words == 1 && pairs.n_bytes == shape_.word_bytes;
  // The end of each block waits for its last loads; in place they come from far, so there should be few ends.
  block_ = in_place_ && n_queries < kWorthShortBlocks ? kMostBlockItems : block_items(filters.best(), pairs.n_bytes);
}

const uint8_t* BlockColumns::arranged(const FilterRow& row, const FilterPass& pass) {
  if (!nibbles_) nibbles_.reset(new Line[static_cast<size_t>(block_ * item_bytes(row, pairs_.n_bytes) / 64)]);
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
