// Inputs of the ranking ops, and their ranking by an obvious loop.
#pragma once
#include <algorithm>
#include <vector>

#include "check.h"

namespace dshc::test {

enum class Mask { none, shared, per_query };
enum class Codes { extreme, clustered, equal };  // extreme: random, all bits set, none set

struct Item {
  int64_t index;
  int32_t count, rank_value;
  bool relevant;
};

struct RankingCase {
  int32_t n_bytes = 1;
  int64_t n_query = 0, n_db = 0;
  Score score = Score::hamming;
  Mask mask = Mask::none;
  int32_t n_words = 0;  // of the labels; 0: class ids
  int64_t allowed_stride = 0;
  Exact<uint8_t> queries, database, allowed;
  Exact<int32_t> query_ids, database_ids;
  Exact<uint64_t> query_words, database_words;

  RankingCase(Random& random, int32_t n_bytes, int64_t n_query, int64_t n_db, Score score, Mask mask, int32_t n_words,
              Codes codes)
      : n_bytes(n_bytes),
        n_query(n_query),
        n_db(n_db),
        score(score),
        mask(mask),
        n_words(n_words),
        queries(n_query * n_bytes),
        database(n_db * n_bytes),
        query_ids(n_words ? 0 : n_query),
        database_ids(n_words ? 0 : n_db),
        query_words(n_query * n_words),
        database_words(n_db * n_words) {
    make_codes(random, codes);
    if (mask != Mask::none) make_allowed(random);
    for (int64_t i = 0; i < query_ids.size(); ++i) query_ids[i] = static_cast<int32_t>(random.below(5)) - 1;
    for (int64_t i = 0; i < database_ids.size(); ++i) database_ids[i] = static_cast<int32_t>(random.below(4)) - 1;
    // One label or none in each word, so that some pairs share one and others do not.
    for (Exact<uint64_t>* words : {&query_words, &database_words}) {
      for (int64_t i = 0; i < words->size(); ++i) {
        (*words)[i] = random.below(3) ? 0 : uint64_t{1} << (60 + random.below(4));
      }
    }
    g_progress.example = std::to_string(n_bytes) + " bytes, " + std::to_string(n_query) + " x " + std::to_string(n_db) +
                         ", score " + std::to_string(static_cast<int>(score)) + ", mask " +
                         std::to_string(static_cast<int>(mask)) + ", label words " + std::to_string(n_words) +
                         ", codes " + std::to_string(static_cast<int>(codes));
  }

  Pairs pairs() const {
    const uint8_t* mask_rows = mask == Mask::none ? nullptr : allowed.data();
    return {queries.data(), database.data(), n_query, n_db, n_bytes, score, mask_rows, allowed_stride};
  }

  Relevance relevance() const {
    if (n_words == 0) return {query_ids.data(), database_ids.data(), nullptr, nullptr, 0};
    return {nullptr, nullptr, query_words.data(), database_words.data(), n_words};
  }

  int32_t count(int64_t query, int64_t item) const {
    static const auto bit_counts = [] {
      std::vector<uint8_t> counts(256);
      for (size_t i = 1; i < 256; ++i) counts[i] = static_cast<uint8_t>(counts[i / 2] + i % 2);
      return counts;
    }();
    const uint8_t *a = queries.data() + query * n_bytes, *b = database.data() + item * n_bytes;
    int32_t sum = 0;
    for (int32_t i = 0; i < n_bytes; ++i) sum += bit_counts[score == Score::hamming ? a[i] ^ b[i] : a[i] & b[i]];
    return sum;
  }

  bool is_allowed(int64_t query, int64_t item) const {
    return mask == Mask::none || (allowed[query * allowed_stride + item / 8] >> (item % 8) & 1);
  }

  bool is_relevant(int64_t query, int64_t item) const {
    if (n_words == 0) return query_ids[query] == database_ids[item];
    for (int32_t w = 0; w < n_words; ++w) {
      if (query_words[query * n_words + w] & database_words[item * n_words + w]) return true;
    }
    return false;
  }

  // The allowed items, best first.
  std::vector<Item> ranked(int64_t query) const {
    std::vector<Item> items;
    for (int64_t i = 0; i < n_db; ++i) {
      if (!is_allowed(query, i)) continue;
      const int32_t c = count(query, i);
      items.push_back({i, c, score == Score::hamming ? c : 8 * n_bytes - c, is_relevant(query, i)});
    }
    std::stable_sort(items.begin(), items.end(),
                     [](const Item& a, const Item& b) { return a.rank_value < b.rank_value; });
    return items;
  }

 private:
  void make_codes(Random& random, Codes codes) {
    for (int64_t i = 0; i < queries.size(); ++i) queries[i] = static_cast<uint8_t>(random.next());
    // All bits set: the largest counts there are, where a sum kept in too few bits would overflow.
    for (int64_t i = 0; i < n_bytes && n_query > 0; ++i) queries[i] = 0xFF;
    for (int64_t item = 0; item < n_db; ++item) {
      const int64_t kind = codes == Codes::extreme ? random.below(4) : 0;
      const uint64_t cluster = static_cast<uint64_t>(codes == Codes::clustered ? random.below(3) : 0);
      Random repeated(cluster + 77);
      for (int32_t i = 0; i < n_bytes; ++i) {
        uint8_t& byte = database[item * n_bytes + i];
        byte = static_cast<uint8_t>(codes == Codes::extreme ? random.next() : repeated.next());
        if (kind == 1) byte = 0xFF;
        if (kind == 2) byte = 0;
      }
      if (codes == Codes::clustered) {
        database[item * n_bytes + random.below(n_bytes)] ^= static_cast<uint8_t>(1u << random.below(8));
      }
    }
  }

  void make_allowed(Random& random) {
    const int64_t row = (n_db + 7) / 8;
    allowed_stride = mask == Mask::per_query ? row + 3 : 0;
    allowed = Exact<uint8_t>(mask == Mask::per_query ? std::max<int64_t>(n_query - 1, 0) * allowed_stride + row : row);
    const int64_t rare = random.below(3);  // from almost all to almost none
    for (int64_t i = 0; i < allowed.size(); ++i) {
      uint64_t bits = random.next();
      if (rare == 0) bits |= random.next() | random.next();
      if (rare == 2) bits &= random.next() & random.next() & random.next();
      if (random.below(8) == 0) bits = 0xFF;
      allowed[i] = static_cast<uint8_t>(bits);
    }
  }
};

using Ranked = std::vector<std::vector<Item>>;  // for each query

inline Ranked rank(const RankingCase& c) {
  Ranked ranked;
  for (int64_t q = 0; q < c.n_query; ++q) ranked.push_back(c.ranked(q));
  return ranked;
}

constexpr int32_t kBytes[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 64, 65, 128, 512};
constexpr int64_t kItems[] = {1, 31, 32, 33, 63, 64, 65, 2047, 2048, 2049, 5000};
// Cases of many queries: each number of digits that a count can have, and databases around the ends of 512-item blocks.
constexpr int32_t kManyBytes[] = {1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 32, 63, 64, 65, 127, 128, 129};
constexpr int64_t kManyItems[] = {511, 512, 513, 1024, 2500, 1087};
constexpr Score kScores[] = {Score::hamming, Score::overlap};

}  // namespace dshc::test
