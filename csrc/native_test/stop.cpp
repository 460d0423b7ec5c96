// A call that is told to stop throws Stopped, with every thread idle again, and the next call is whole.
#include "../core/stop.h"

#include <chrono>

#include "../core/hamming_distance.h"
#include "../core/hamming_topk.h"
#include "ranking_case.h"

namespace dshc::test {

void test_stop() {
  using Clock = std::chrono::steady_clock;
  Random random(9);
  const int64_t n_query = 30'000, n_db = 400'000, k = 3;  // a call that lasts, on any machine: a short one is not asked
  const RankingCase c(random, 8, n_query, n_db, Score::overlap, Mask::none, 0, Codes::extreme);
  Exact<int32_t> counts(n_query * k);
  Exact<int64_t> indices(n_query * k);
  for (const int n_threads : {1, 3}) {
    g_progress.n_threads = n_threads;
    // Asked twice: the first answer is to go on. Whoever is asked may call ops.
    int asked = 0;
    const auto should_stop = [](void* context) {
      Random other(1);
      const RankingCase small(other, 8, 5, 70'000, Score::hamming, Mask::none, 0, Codes::extreme);
      Exact<int32_t> all(5 * 70'000);
      cpu::hamming_distance(small.pairs(), all.data(), 3);
      return ++*static_cast<int*>(context) >= 2;
    };
    bool stopped = false;
    const auto begin = Clock::now();
    {
      const cpu::Stoppable stoppable(should_stop, &asked);
      try {
        for (int i = 0; i < 1000; ++i) cpu::hamming_topk(c.pairs(), k, counts.data(), indices.data(), n_threads);
      } catch (const Stopped&) {
        stopped = true;
      }
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    expect_same("stop", 0, stopped, true);
    expect_same("stop", 1, asked, 2);
    if (seconds > 30.0) fail("stop", 2, text(seconds) + " s", "a fraction of a second");  // sanitizers and emulators are slow
    count("stop", 2);
    Exact<int32_t> after(2 * k), whole(2 * n_db);
    Exact<int64_t> items(2 * k);
    Pairs pairs = c.pairs();
    pairs.n_query = 2;
    cpu::hamming_topk(pairs, k, after.data(), items.data(), n_threads);
    cpu::hamming_distance(pairs, whole.data(), n_threads);
    for (int64_t i = 0; i < 2 * k; ++i) expect_same("after a stop", i, whole[i / k * n_db + items[i]], after[i]);
    count("after a stop", 2 * k);
  }
  g_progress.n_threads = 1;
  finish_group("stop");
}

}  // namespace dshc::test
