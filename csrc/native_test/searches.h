// Top-k and radius search of a case against its ranking.
#pragma once
#include <string>

#include "../core/hamming_radius.h"
#include "../core/hamming_topk.h"
#include "ranking_case.h"

namespace dshc::test {

// `pairs`: those of the case, with what a search may ask instead of a scan, which `how` names.
inline void expect_searches(const std::string& how, const RankingCase& c, const Ranked& ranked, const Pairs& pairs,
                            int n_threads) {
  const std::string topk = "topk " + how, within = "radius " + how;
  for (const int64_t k : {int64_t{1}, c.n_db / 2 + 1, c.n_db}) {
    Exact<int32_t> counts(c.n_query * k);
    Exact<int64_t> indices(c.n_query * k);
    cpu::hamming_topk(pairs, k, counts.data(), indices.data(), n_threads);
    for (int64_t q = 0; q < c.n_query; ++q) {
      const auto& items = ranked[static_cast<size_t>(q)];
      for (int64_t i = 0; i < k; ++i) {
        const bool there = i < static_cast<int64_t>(items.size());
        expect_same(topk.c_str(), q * k + i, indices[q * k + i], there ? items[static_cast<size_t>(i)].index : -1);
        if (there) expect_same(topk.c_str(), q * k + i, counts[q * k + i], items[static_cast<size_t>(i)].count);
      }
    }
    count(topk.c_str(), c.n_query * k);
  }
  for (const int64_t radius : {0, c.n_bytes, 3 * c.n_bytes - 1, 8 * c.n_bytes}) {
    cpu::RadiusSearch search(pairs, radius, n_threads);
    Exact<int64_t> limits(c.n_query + 1), indices(search.n_found());
    Exact<int32_t> counts(search.n_found());
    search.write(limits.data(), indices.data(), counts.data(), n_threads);
    int64_t at = 0;
    for (int64_t q = 0; q < c.n_query; ++q) {
      expect_same(within.c_str(), q, limits[q], at);
      for (const Item& item : ranked[static_cast<size_t>(q)]) {
        if (item.count > radius) break;
        expect_same(within.c_str(), at, indices[at], item.index);
        expect_same(within.c_str(), at, counts[at], item.count);
        ++at;
      }
    }
    expect_same(within.c_str(), c.n_query, limits[c.n_query], at);
    count(within.c_str(), at);
  }
}

}  // namespace dshc::test
