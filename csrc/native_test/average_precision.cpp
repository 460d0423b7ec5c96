// average_precision: ties by index, best and worst against a walk down the sorted list; expected against the sum over
// the places of each tie, and over all outcomes of a cut through one.
#include "../core/average_precision.h"

#include <limits>

#include "ranking_case.h"

namespace dshc::test {
namespace {

struct Cut {
  int64_t k;
  Denominator denominator;
};

int64_t relevant_among(const std::vector<Item>& items) {
  return std::count_if(items.begin(), items.end(), [](const Item& item) { return item.relevant; });
}

double divide(double sum, int64_t retrieved, int64_t all_relevant, Cut cut) {
  int64_t divisor = all_relevant;
  if (cut.denominator == Denominator::retrieved) divisor = retrieved;
  if (cut.denominator == Denominator::min) divisor = std::min(cut.k, all_relevant);
  return divisor > 0 ? sum / static_cast<double>(divisor) : 0.0;
}

double by_order(const std::vector<Item>& items, Cut cut) {
  const int64_t all_relevant = relevant_among(items);
  if (all_relevant == 0) return std::nan("");
  double sum = 0.0;
  int64_t rank = 0, hits = 0;
  for (const Item& item : items) {
    if (++rank > cut.k) break;
    if (item.relevant) sum += static_cast<double>(++hits) / static_cast<double>(rank);
  }
  return divide(sum, hits, all_relevant, cut);
}

// The chance that m draws from n items, p of them relevant, give 0, 1, ... relevant ones: draw by draw.
std::vector<double> hypergeometric(int64_t n, int64_t p, int64_t m) {
  std::vector<double> chance(static_cast<size_t>(std::min(p, m) + 1), 0.0);
  chance[0] = 1.0;
  for (int64_t drawn = 0; drawn < m; ++drawn) {
    const double left = static_cast<double>(n - drawn);
    for (int64_t x = std::min({p, m, drawn + 1}); x >= 0; --x) {
      double& mine = chance[static_cast<size_t>(x)];
      mine *= static_cast<double>(n - p - (drawn - x)) / left;
      if (x > drawn) mine = 0.0;
      if (x > 0) mine += chance[static_cast<size_t>(x - 1)] * static_cast<double>(p - x + 1) / left;
    }
  }
  return chance;
}

// What m places hold in expectation when x of these m items are relevant, N items with P relevant ones before them.
double expected_inside(int64_t places, int64_t m, int64_t x, int64_t N, int64_t P) {
  const double share = static_cast<double>(x) / static_cast<double>(m);
  const double slope = m > 1 ? static_cast<double>(x - 1) / static_cast<double>(m - 1) : 0.0;
  double sum = 0.0;
  for (int64_t t = 1; t <= places; ++t) {
    sum += share * (static_cast<double>(P + 1) + static_cast<double>(t - 1) * slope) / static_cast<double>(N + t);
  }
  return sum;
}

double expected(const std::vector<Item>& items, Cut cut) {
  const int64_t all_relevant = relevant_among(items);
  if (all_relevant == 0) return std::nan("");
  double sum = 0.0;
  int64_t N = 0, P = 0;
  for (size_t begin = 0, end = 0; begin < items.size() && N < cut.k; begin = end) {
    while (end < items.size() && items[end].rank_value == items[begin].rank_value) ++end;
    const auto n = static_cast<int64_t>(end - begin), m = std::min(n, cut.k - N);
    const int64_t p = relevant_among({items.data() + begin, items.data() + end});
    if (m < n && cut.denominator == Denominator::retrieved) {
      const std::vector<double> chance = hypergeometric(n, p, m);
      double mean = 0.0;
      for (int64_t x = 0; x < static_cast<int64_t>(chance.size()); ++x) {
        if (chance[static_cast<size_t>(x)] < 1e-18 || P + x == 0) continue;
        mean += chance[static_cast<size_t>(x)] * (sum + expected_inside(m, m, x, N, P)) / static_cast<double>(P + x);
      }
      return mean;
    }
    sum += expected_inside(m, n, p, N, P);
    N += n;
    P += p;
  }
  return divide(sum, P, all_relevant, cut);
}

double wanted_for(std::vector<Item> items, Ties ties, Cut cut) {
  cut.k = std::min(cut.k, static_cast<int64_t>(items.size()));
  if (ties == Ties::expected) return expected(items, cut);
  if (ties != Ties::index) {
    std::stable_sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
      if (a.rank_value != b.rank_value) return a.rank_value < b.rank_value;
      return ties == Ties::best ? a.relevant > b.relevant : a.relevant < b.relevant;
    });
  }
  return by_order(items, cut);
}

void check(const RankingCase& c, const Ranked& ranked, Ties ties, Cut cut) {
  const std::string before = g_progress.example;
  g_progress.example += ", ties " + std::to_string(static_cast<int>(ties)) + ", k " + std::to_string(cut.k) +
                        ", denominator " + std::to_string(static_cast<int>(cut.denominator));
  Exact<double> first;
  on_every_path([&](int n_threads) {
    Exact<double> result(c.n_query);
    cpu::average_precision(c.pairs(), c.relevance(), cut.k, ties, cut.denominator, result.data(), n_threads);
    if (first.size() == c.n_query) {
      expect_same_bits("average_precision", result, first);
    } else {
      for (int64_t q = 0; q < c.n_query; ++q) {
        const double wanted = wanted_for(ranked[static_cast<size_t>(q)], ties, cut);
        expect_close("average_precision", q, result[q], wanted, 1e-12 * wanted);
      }
      first = std::move(result);
    }
    count("average_precision", c.n_query);
  });
  g_progress.example = before;
}

}  // namespace

void test_average_precision() {
  Random random(3);
  int turn = 0;
  for (const int32_t n_bytes : kBytes) {
    for (const int64_t n_db : kItems) {
      for (const Score score : kScores) {
        constexpr int32_t kWords[] = {0, 1, 3};
        ++turn;
        const bool large = n_db > 100;
        const RankingCase c(random, n_bytes, large ? 2 : 3, n_db, score, static_cast<Mask>(turn % 5 % 3),
                            kWords[turn / 3 % 3], static_cast<Codes>(turn % 7 % 3));
        const Ranked ranked = rank(c);
        const int64_t cuts[] = {n_db, n_db / 2 + 1, 1, n_db / 7 + 1, n_db + 7};
        int call = 0;
        for (const int64_t k : cuts) {
          for (const Ties ties : {Ties::index, Ties::expected, Ties::best, Ties::worst}) {
            for (const Denominator denominator : {Denominator::retrieved, Denominator::min, Denominator::relevant}) {
              // Long codes and large databases take turns: each gets every seventh of the sixty combinations.
              if (++call % (large ? 7 : 1) == turn % (large ? 7 : 1)) check(c, ranked, ties, {k, denominator});
            }
          }
        }
      }
    }
  }
  // Work enough that three threads share it, each with groups of several queries.
  const RankingCase many(random, 33, 40, 5000, Score::overlap, Mask::none, 0, Codes::clustered);
  for (const Ties ties : {Ties::index, Ties::expected}) check(many, rank(many), ties, {4000, Denominator::min});
  // So many queries that the database is arranged for them: sliced, grouped, without the items that no query may get.
  for (const int32_t n_bytes : kManyBytes) {
    for (const Score score : kScores) {
      constexpr int32_t kWords[] = {0, 0, 1, 0, 3};
      ++turn;
      const RankingCase c(random, n_bytes, 120, kManyItems[turn % 6], score, static_cast<Mask>(turn % 7 % 3),
                          kWords[turn % 5], static_cast<Codes>(turn % 11 % 3));
      const Ranked ranked = rank(c);
      for (const Ties ties : {Ties::index, Ties::expected, Ties::best, Ties::worst}) {
        const auto denominator = static_cast<Denominator>((turn + static_cast<int>(ties)) % 3);
        for (const int64_t k : {c.n_db, c.n_db / 7 + 1}) check(c, ranked, ties, {k, denominator});
      }
    }
  }
  // Planes beyond the second-level cache, which the queries pass in chunks.
  const RankingCase wide(random, 128, 99, 9000, Score::hamming, Mask::none, 0, Codes::extreme);
  for (const Ties ties : {Ties::index, Ties::expected}) check(wide, rank(wide), ties, {9000, Denominator::retrieved});
  check(RankingCase(random, 8, 0, 10, Score::hamming, Mask::none, 0, Codes::extreme), {}, Ties::index,
        {5, Denominator::retrieved});  // no queries
  finish_group("average_precision");
}

}  // namespace dshc::test
