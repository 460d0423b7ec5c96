#include "allowed_items.h"

#include <cstring>

#include "../call/call.h"

namespace dshc::cpu {

namespace {

constexpr int64_t kWorthCopy = 8;  // queries

// Word w of the mask; items beyond the database are not allowed.
uint64_t mask_word(const Pairs& pairs, int64_t w) {
  const int64_t bits = pairs.n_db - 64 * w;
  uint64_t word = 0;
  std::memcpy(&word, pairs.allowed + 8 * w, static_cast<size_t>(bits >= 64 ? 8 : (bits + 7) / 8));
  return bits >= 64 ? word : word & ((uint64_t{1} << bits) - 1);
}

int64_t count_allowed(const Pairs& pairs) {
  int64_t n = 0;
  for (int64_t w = 0; w < (pairs.n_db + 63) / 64; ++w) n += __builtin_popcountll(mask_word(pairs, w));
  return n;
}

bool shared_mask(const Pairs& pairs) {
  return pairs.allowed && pairs.allowed_stride == 0 && pairs.n_query >= kWorthCopy;
}

}  // namespace

void AllowedItems::copy_codes(const Pairs& pairs) {
  items_.resize(static_cast<size_t>(count_allowed(pairs)));
  codes_.resize(items_.size() * static_cast<size_t>(pairs.n_bytes));
  size_t n = 0;
  in_stretches(0, (pairs.n_db + 63) / 64, 100.0, [&](int64_t first, int64_t last) {
    for (int64_t w = first; w < last; ++w) {
      for (uint64_t word = mask_word(pairs, w); word != 0; word &= word - 1) items_[n++] = 64 * w + __builtin_ctzll(word);
    }
  });
  const size_t n_bytes = static_cast<size_t>(pairs.n_bytes);
  const auto copy = [&](size_t bytes) {
    in_stretches(0, static_cast<int64_t>(items_.size()), 3.0, [&](int64_t first, int64_t last) {
      for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
        std::memcpy(codes_.data() + i * bytes, pairs.database + items_[i] * pairs.n_bytes, bytes);
      }
    });
  };
  n_bytes == 8 ? copy(8) : copy(n_bytes);  // a constant length is one load and one store
  pairs_.allowed = nullptr;
  pairs_.database = codes_.data();
  pairs_.n_db = static_cast<int64_t>(items_.size());
  // The parts are of the whole database; whether codes repeat is still known.
  if (pairs.equal_codes.n_parts != Partition::kDistinct) pairs_.equal_codes = {};
}

AllowedItems::AllowedItems(const Pairs& pairs, const Relevance& relevance) : pairs_(pairs), relevance_(relevance) {
  if (!shared_mask(pairs)) return;
  if (count_allowed(pairs) == pairs.n_db) {
    pairs_.allowed = nullptr;
    return;
  }
  copy_codes(pairs);
  if (relevance.equal_labels.n_parts != Partition::kDistinct) relevance_.equal_labels = {};
  if (relevance.database_ids) {
    ids_.resize(items_.size());
    in_stretches(0, static_cast<int64_t>(items_.size()), 2.0, [&](int64_t first, int64_t last) {
      for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
        ids_[i] = relevance.database_ids[items_[i]];
      }
    });
    relevance_.database_ids = ids_.data();
    return;
  }
  const size_t n_words = static_cast<size_t>(relevance.n_words);
  words_.resize(items_.size() * n_words);
  in_stretches(0, static_cast<int64_t>(items_.size()), 5.0, [&](int64_t first, int64_t last) {
    for (size_t i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      std::memcpy(words_.data() + i * n_words, relevance.database_words + items_[i] * relevance.n_words, 8 * n_words);
    }
  });
  relevance_.database_words = words_.data();
}

AllowedItems::AllowedItems(const Pairs& pairs) : pairs_(pairs), relevance_{} {
  if (!shared_mask(pairs)) return;
  const int64_t n = count_allowed(pairs);
  if (n == pairs.n_db) {
    pairs_.allowed = nullptr;
  } else if (2 * n < pairs.n_db) {
    copy_codes(pairs);
  }
}

}  // namespace dshc::cpu
