// retrieval_metric: ties by index, best and worst against a walk down the sorted list; expected against sums over the places of
// each tie, and for the first relevant item over all places that it can have.
#include "../core/retrieval_metric.h"

#include <cmath>
#include <limits>

#include "ranking_case.h"

namespace dshc::test {
namespace {

constexpr Metric kMetrics[] = {Metric::ndcg,     Metric::reciprocal_rank, Metric::precision,
                               Metric::recall,   Metric::hit_rate,        Metric::r_precision,
                               Metric::average_precision_at_r};
constexpr Ties kTies[] = {Ties::index, Ties::expected, Ties::best, Ties::worst};

struct Graded {
  int32_t rank_value;
  int64_t shared;  // labels in common with the query
};

int64_t shared_labels(const RankingCase& c, int64_t query, int64_t item) {
  if (c.n_words == 0) return c.is_relevant(query, item) ? 1 : 0;
  int64_t shared = 0;
  for (int32_t w = 0; w < c.n_words; ++w) {
    for (uint64_t both = c.query_words[query * c.n_words + w] & c.database_words[item * c.n_words + w]; both; both &= both - 1) {
      ++shared;
    }
  }
  return shared;
}

double gain(int64_t shared, Gains gains) {
  return gains == Gains::linear ? static_cast<double>(shared) : std::pow(2.0, static_cast<double>(shared)) - 1.0;
}

double at_rank(int64_t rank) { return 1.0 / std::log2(static_cast<double>(rank) + 1.0); }

double wanted_for(std::vector<Graded> items, const MetricTask& task) {
  const auto relevant = [](const Graded& item) { return item.shared > 0; };
  const auto n = static_cast<int64_t>(items.size());
  const int64_t all = std::count_if(items.begin(), items.end(), relevant);
  if (all == 0) return std::nan("");
  const bool at_r = task.metric == Metric::r_precision || task.metric == Metric::average_precision_at_r;
  const int64_t k = at_r ? all : (task.k == 0 ? n : std::min(task.k, n));
  std::stable_sort(items.begin(), items.end(), [&](const Graded& a, const Graded& b) {
    if (a.rank_value != b.rank_value) return a.rank_value < b.rank_value;
    return task.ties == Ties::best ? a.shared > b.shared : task.ties == Ties::worst && a.shared < b.shared;
  });
  double gained = 0.0, found = 0.0, precisions = 0.0, reciprocal = 0.0, hit = 0.0, none_before = 1.0;
  int64_t P = 0;
  for (int64_t begin = 0, end = 0; begin < n; begin = end) {
    end = begin + 1;
    while (task.ties == Ties::expected && end < n && items[end].rank_value == items[begin].rank_value) ++end;
    const double size = static_cast<double>(end - begin);
    const int64_t p = std::count_if(items.begin() + begin, items.begin() + end, relevant);
    double gains = 0.0, none = none_before;  // that no relevant item came before a place of the tie
    for (int64_t i = begin; i < end; ++i) gains += gain(items[i].shared, task.gains);
    for (int64_t place = 0; place < end - begin && begin + place < k; ++place) {
      const auto rank = static_cast<double>(begin + place + 1);
      const double left = size - static_cast<double>(place), chance = std::min(1.0, static_cast<double>(p) / left);
      const double slope = size > 1 ? static_cast<double>(p - 1) / (size - 1) : 0.0;
      gained += gains / size * at_rank(begin + place + 1);
      found += static_cast<double>(p) / size;
      precisions += static_cast<double>(p) / size * (static_cast<double>(P + 1) + static_cast<double>(place) * slope) / rank;
      reciprocal += none * chance / rank;
      hit += none * chance;
      none *= 1.0 - chance;
    }
    if (p > 0) none_before = 0.0;
    P += p;
  }
  std::sort(items.begin(), items.end(), [](const Graded& a, const Graded& b) { return a.shared > b.shared; });
  double ideal = 0.0;
  for (int64_t i = 0; i < k; ++i) ideal += gain(items[static_cast<size_t>(i)].shared, task.gains) * at_rank(i + 1);
  switch (task.metric) {
    case Metric::ndcg: return gained / ideal;
    case Metric::reciprocal_rank: return reciprocal;
    case Metric::hit_rate: return hit;
    case Metric::precision: return found / static_cast<double>(task.k == 0 ? n : task.k);
    case Metric::recall:
    case Metric::r_precision: return found / static_cast<double>(all);
    case Metric::average_precision_at_r: return precisions / static_cast<double>(all);
  }
  return std::nan("");
}

void check(const RankingCase& c, const Ranked& ranked, const MetricTask& task) {
  const std::string before = g_progress.example;
  g_progress.example += ", metric " + std::to_string(static_cast<int>(task.metric)) + ", ties " +
                        std::to_string(static_cast<int>(task.ties)) + ", k " + std::to_string(task.k);
  std::vector<double> wanted;
  for (int64_t q = 0; q < c.n_query; ++q) {
    std::vector<Graded> items;
    for (const Item& item : ranked[static_cast<size_t>(q)]) items.push_back({item.rank_value, shared_labels(c, q, item.index)});
    wanted.push_back(wanted_for(std::move(items), task));
  }
  Exact<double> first;
  on_every_path([&](int n_threads) {
    Exact<double> result(c.n_query);
    cpu::retrieval_metric(c.pairs(), c.relevance(), task, result.data(), n_threads);
    if (first.size() == c.n_query) {
      expect_same_bits("retrieval_metric", result, first);
    } else {
      for (int64_t q = 0; q < c.n_query; ++q) {
        const double value = wanted[static_cast<size_t>(q)];
        expect_close("retrieval_metric", q, result[q], value, 1e-11 * value);
      }
      first = std::move(result);
    }
    count("retrieval_metric", c.n_query);
  });
  g_progress.example = before;
}

int64_t cut_for(Metric metric, int64_t n_db, int turn) {
  if (metric == Metric::r_precision || metric == Metric::average_precision_at_r) return 0;
  const int64_t cuts[] = {0, n_db / 2 + 1, 1, n_db / 7 + 1, n_db + 7};
  return cuts[turn % 5];
}

}  // namespace

void test_retrieval_metric() {
  Random random(5);
  int turn = 0;
  constexpr int32_t kWords[] = {0, 1, 3};
  for (const int32_t n_bytes : kBytes) {
    for (const int64_t n_db : kItems) {
      for (const Score score : kScores) {
        ++turn;
        const bool large = n_db > 100;
        const RankingCase c(random, n_bytes, large ? 2 : 3, n_db, score, static_cast<Mask>(turn % 5 % 3),
                            kWords[turn / 3 % 3], static_cast<Codes>(turn % 7 % 3));
        const Ranked ranked = rank(c);
        int call = 0;
        for (const Metric metric : kMetrics) {
          for (const Ties ties : kTies) {
            // Large databases take turns: each gets every seventh of the combinations.
            if (++call % (large ? 7 : 1) != turn % (large ? 7 : 1)) continue;
            check(c, ranked, {metric, cut_for(metric, n_db, turn + call), ties, static_cast<Gains>((turn + call) % 2)});
          }
        }
      }
    }
  }
  // So many queries that histograms are made for all of them at once, or that threads share the groups.
  for (const int32_t n_bytes : kManyBytes) {
    ++turn;
    const RankingCase c(random, n_bytes, 120, kManyItems[turn % 6], kScores[turn % 2], static_cast<Mask>(turn % 7 % 3),
                        kWords[turn % 3], static_cast<Codes>(turn % 11 % 3));
    const Ranked ranked = rank(c);
    for (const Metric metric : {Metric::ndcg, kMetrics[turn % 7]}) {
      for (const Ties ties : kTies) check(c, ranked, {metric, cut_for(metric, c.n_db, turn), ties, Gains::linear});
    }
  }
  check(RankingCase(random, 8, 0, 10, Score::hamming, Mask::none, 0, Codes::extreme), {},
        {Metric::ndcg, 5, Ties::index, Gains::linear});  // no queries
  finish_group("retrieval_metric");
}

}  // namespace dshc::test
