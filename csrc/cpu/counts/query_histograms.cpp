#include "query_histograms.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "../call/count_plan.h"
#include "../call/threads.h"
#include "grouped.h"
#include "scan.h"
#include "sliced.h"
#include "tables.h"

namespace dshc::cpu {
namespace {

void grouped(const GroupedDatabase& database, int64_t n_query, int n_threads, const UseHistograms& use) {
  const int64_t n_tasks = task_count(n_query, 1000.0, n_threads);
  parallel_for(n_tasks, n_threads, [&](int64_t task) {
    GroupedDatabase::Counter counter(database);
    for (int64_t q = n_query * task / n_tasks; q < n_query * (task + 1) / n_tasks; ++q) {
      counter.count(q);
      use(q, counter.items(), counter.relevant());
    }
  });
}

void sliced(const SlicedDatabase& database, int64_t n_query, int n_threads, const UseHistograms& use) {
  constexpr int64_t kGroup = 16;  // queries that share a chunk of the database while it is in the cache
  const int64_t group = std::min(kGroup, (n_query + 4 * n_threads - 1) / (4 * n_threads));
  parallel_for((n_query + group - 1) / group, n_threads, [&](int64_t task) {
    const int64_t begin = task * group, end = std::min(begin + group, n_query);
    SlicedDatabase::Counter counter(database, begin, end);
    counter.count();
    for (int64_t q = begin; q < end; ++q) use(q, counter.items(q), counter.relevant(q));
  });
}

// Every pair is compared and counted for itself. Shards of one query are added up before its histograms are used.
void scanned(const Tasks& tasks, const Pairs& pairs, const Relevance& relevance, const UseHistograms& use) {
  const int32_t n_values = n_rank_values(pairs);
  const bool merge = tasks.n_shards > 1;
  std::vector<int64_t> merged(merge ? static_cast<size_t>(pairs.n_query * 2 * n_values) : 0);
  std::mutex merging;
  parallel_for(tasks.n_tasks(), tasks.n_threads, [&](int64_t task) {
    const int64_t begin = task / tasks.n_shards * tasks.group, end = std::min(begin + tasks.group, pairs.n_query);
    const int64_t item = task % tasks.n_shards * tasks.shard;
    HistogramTables tables(end - begin, n_values);
    scan(pairs, &relevance, histogram_marks(pairs), begin, end, item, std::min(item + tasks.shard, pairs.n_db),
         [&](int64_t q, int64_t, int64_t n, const uint16_t* row) { tables.add(q - begin, row, n); });
    std::vector<int64_t> both(static_cast<size_t>(2 * n_values));
    for (int64_t q = begin; q < end; ++q) {
      for (int32_t value = 0; value < n_values; ++value) {
        both[static_cast<size_t>(value)] = tables.items(q - begin, value);
        both[static_cast<size_t>(n_values + value)] = tables.relevant(q - begin, value);
      }
      if (!merge) {
        use(q, both.data(), both.data() + n_values);
        continue;
      }
      const std::lock_guard<std::mutex> lock(merging);
      for (size_t i = 0; i < both.size(); ++i) merged[static_cast<size_t>(q * 2 * n_values) + i] += both[i];
    }
  });
  for (int64_t q = 0; merge && q < pairs.n_query; ++q) {
    const int64_t* items = merged.data() + q * 2 * n_values;
    use(q, items, items + n_values);
  }
}

}  // namespace

void query_histograms(const Pairs& pairs, const Relevance& relevance, int n_threads, const UseHistograms& use) {
  const CountPlan plan = plan_histograms(pairs, relevance, 8 * kTables * n_rank_values(pairs), level(), n_threads);
  if (plan.empty) {
    const std::vector<int64_t> zeros(static_cast<size_t>(n_rank_values(pairs)), 0);
    for (int64_t q = 0; q < pairs.n_query; ++q) use(q, zeros.data(), zeros.data());
    return;
  }
  if (plan.by_codes) {
    const GroupedDatabase database(pairs, relevance, n_threads);
    if (database.pays()) return grouped(database, pairs.n_query, n_threads, use);
  }
  if (plan.sliced) {
    const SlicedDatabase database(pairs, relevance, plan.max_labels, n_threads);
    if (database.pays()) return sliced(database, pairs.n_query, n_threads, use);
  }
  scanned(plan.tasks, pairs, relevance, use);
}

}  // namespace dshc::cpu
