// Clusters of codes: whether they are found, and searches through them against the sorted list of all items.
#include "../cpu/repeats/code_clusters.h"

#include "../cpu/call/cluster_plan.h"
#include "searches.h"

namespace dshc::test {
namespace {

void check_search(const RankingCase& c) {
  const Ranked ranked = rank(c);
  on_every_path([&](int n_threads) {
    const cpu::OwnedClusters clusters(c.database.data(), c.n_bytes, c.n_db, true, n_threads);
    expect_same("clusters", 0, clusters.found(), true);
    const CodeClusters& view = clusters.view();
    const int64_t rows = view.begin(view.n_centers - 1, view.n_rings);
    expect_same("clusters", 0, rows, c.n_db);
    count("clusters", view.n_centers);
    Pairs pairs = c.pairs();
    pairs.clusters = &view;
    pairs.table_use = TableUse::always;
    expect_searches("by clusters", c, ranked, pairs, n_threads);
  });
}

// Where a sample shows that they pay, and only there.
void check_found() {
  constexpr int64_t n = 40'000;
  Random random(5);
  Exact<uint8_t> codes(8 * n);
  for (const bool near : {true, false}) {
    for (int64_t i = 0; i < n; ++i) {
      Random center(100 + random.below(50));
      for (int64_t byte = 0; byte < 8; ++byte) {
        codes[8 * i + byte] = static_cast<uint8_t>(near ? center.next() : random.next());
      }
      codes[8 * i + random.below(8)] ^= static_cast<uint8_t>(1u << random.below(8));
    }
    on_every_path([&](int n_threads) {
      const cpu::OwnedClusters clusters(codes.data(), 8, n, false, n_threads);
      expect_same("clusters", near, clusters.found(), near);
      expect_same("clusters", near, cpu::OwnedClusters(codes.data(), 8, 1000, false, n_threads).found(), false);
      count("clusters", 2);
    });
  }
}

void check_plans() {
  const uint32_t none = 0;
  CodeClusters clusters{};
  clusters.begins = &none;
  clusters.n_centers = 100;
  Pairs pairs{nullptr, nullptr, 100, 1'000'000, 8, Score::hamming, nullptr, 0};
  pairs.clusters = &clusters;
  const auto expect = [&](const cpu::ClusterPlan& plan, const std::string& wanted) {
    const std::string got = cpu::text(plan, clusters);
    if (got != wanted) fail("plan", 0, '"' + got + '"', '"' + wanted + '"');
    count("plan", 1);
  };
  const std::string asked = "100 clusters, or scanned from ";
  expect(cpu::plan_clusters_topk(pairs, 10, 2), asked + "125000 items on; 2 threads");
  expect(cpu::plan_clusters_radius(pairs, 10, 1), asked + "125000 items on; 1 thread");
  expect(cpu::plan_clusters_topk(pairs, 20'000, 1), "no clusters");
  expect(cpu::plan_clusters_radius(pairs, -1, 1), "no clusters");
  pairs.n_query = 8;
  expect(cpu::plan_clusters_topk(pairs, 10, 1), asked + "250000 items on; 1 thread");
  pairs.n_query = 1;
  expect(cpu::plan_clusters_topk(pairs, 10, 1), asked + "500000 items on; 1 thread");
  Pairs other = pairs;
  other.score = Score::overlap;
  expect(cpu::plan_clusters_topk(other, 10, 1), "no clusters");
  const uint8_t mask = 0;
  other = pairs;
  other.allowed = &mask;
  expect(cpu::plan_clusters_topk(other, 10, 1), asked + "500000 items on; 1 thread");
  other.allowed_stride = 125'000;
  expect(cpu::plan_clusters_topk(other, 10, 1), "no clusters");
}

}  // namespace

void test_code_clusters() {
  Random random(23);
  check_found();
  check_plans();
  for (const int32_t n_bytes : {4, 8, 16, 40}) {
    for (const Codes codes : {Codes::extreme, Codes::clustered, Codes::equal}) {
      for (const Mask mask : {Mask::none, Mask::shared}) {
        for (const int64_t n_db : {1, 7, 300}) {
          check_search(RankingCase(random, n_bytes, 5, n_db, Score::hamming, mask, 0, codes));
        }
      }
    }
  }
  finish_group("code clusters");
}

}  // namespace dshc::test
