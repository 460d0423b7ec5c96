// Sums over relevant items by their places (index_columns.h), ties by index: rank is an item's place in the order of (rank value,
// index), hits its place among the relevant items. For 256 queries and more, codes of up to 160 bits and databases of up to 4
// million items.
//
// Two walks (column_walk.h) over the same shards. The first counts, as query_columns.cu does, and writes its counters apart for
// each shard, [shard, counter, query]: 16 bits for items and 16 for relevant items. In the second a column begins with the
// places that follow from these counts: items, and relevant items, of smaller values anywhere and of the same value in shards
// before. A thread meets its items in order of index, so that the counter is the place of the next item: no ballot, no match of
// lanes. Each shard writes its sum and its hits, which the caller's last kernel adds in order. The sum is formed in one fixed
// order for one way of cutting; sums agree with the CPU's to 1e-12, not to the bit.
//
// What a relevant item adds is not worked out where it is met: of 32 lanes one nearly always has a relevant item, and the others
// would wait for its quotient. Each column has a short queue in shared memory, and a warp empties all of its queues as soon as
// one of them is nearly full: with one relevant item in ten that is one round for 5 pairs. Three ways to walk:
//   direct   both places fit 16 bits: one counter of 32 bits. The queue holds the counters as relevant items met them.
//   bounded  as direct, where the cut lets in one item in 16 or fewer: the queue holds what lies at values that can still be
//            inside the cut, relevant or not, and the counters are touched only when it is emptied.
//   wide     a counter of 32 bits for items, and one for relevant items, which only the emptying of the queue touches.
//
// Least possible: two passes of scoring (a rank needs the whole histogram), 16 cycles each of a scheduler for 32 pairs of 64
// bits (query_columns.cu). The second issues, for 32 pairs of 64 bits and ids (sm_90a), 17 instructions direct and wide and 16
// bounded, and some 25 more for a round of the queue, 5 for 32 pairs with one relevant item in ten; the quotient at each pair
// with a relevant lane made them 46. Shared memory is busy for 4 cycles more than in the first. Moved beside the codes: 4 bytes
// per query, counter and shard written, and read again by each of its blocks, hence at most 64 shards.
// Why not the simpler way: relevant_places.h matches the lanes of a warp and needs 8-byte tables by shard in global memory, read
// at every hit.
#include "index_columns.h"

#include "column_plan.h"
#include "quick_terms.h"

namespace dshc::cuda {
namespace {

constexpr int64_t kFewestQueries = 256;
constexpr int kMostLabelWords = 4;       // the plan does not depend on the labels, so that the workspace does not
constexpr int kQueueSlots = 12;          // of a column
constexpr int64_t kMostPlace = 0xFFFF;   // of half a counter
constexpr int kPlaceBits = 22;           // of a place in a wide queue, below the count
constexpr int64_t kFewItems = 60 * 256;  // of a shard, so that cuts of up to 50,175 are not wide
constexpr int64_t kBoundedShare = 16;    // one item in so many is inside, or fewer: else touching counters late costs more
static_assert(kMostOrderedShards * kMostItemsALane <= 1 << kPlaceBits, "places fit");
static_assert(8 * 4 * 5 < 1 << (32 - kPlaceBits), "counts of 160 bits fit");

enum class Walk { direct, bounded, wide };

// What the launches for some queries share.
struct Partial {
  OrderedParts parts;
  uint32_t* table;  // [n_shards, n_counters, n_query]
};

int64_t partial_bytes(int64_t n_query, const ColumnPlan& plan) {
  return n_query * (2 * 8 + plan.n_shards * (2 * 8 + 4 * static_cast<int64_t>(plan.n_counters)));
}

Partial carve(void* workspace, int64_t n_query, const ColumnPlan& plan) {
  Partial partial{};
  OrderedParts& parts = partial.parts;
  parts.items = static_cast<int64_t*>(workspace);
  parts.relevant = parts.items + n_query;
  parts.sums = reinterpret_cast<double*>(parts.relevant + n_query);
  parts.hits = reinterpret_cast<int64_t*>(parts.sums + plan.n_shards * n_query);
  parts.n_shards = plan.n_shards;
  partial.table = reinterpret_cast<uint32_t*>(parts.hits + plan.n_shards * n_query);
  return partial;
}

template <int kWords, int kLabelWords>
__device__ __forceinline__ uint32_t* column_table(const ColumnPlan& plan) {
  return dynamic_shared<uint32_t>() + kColumnTile<kWords> * (kWords + kLabelWords) + 2 * plan.lanes() * kChunkGap;
}

template <int kWords> constexpr int kCountColumns = kWords <= 2 ? 2 : 1;  // of a thread
// Scoring a batch ahead of adding (column_walk.h): in so far as registers allow.
template <int kWords> constexpr bool kAhead = kWords <= 2;

template <int kWords, int kLabelWords>
__global__ void __launch_bounds__(kMostColumns / kCountColumns<kWords>, kColumnBlocks<kWords>)
    count_kernel(Pairs pairs, Relevance relevance, ColumnPlan plan, Partial partial) {
  constexpr int kColumns = kCountColumns<kWords>;
  const OwnColumns<kColumns> own = own_columns<kColumns>(plan);
  auto* column = reinterpret_cast<unsigned char*>(column_table<kWords, kLabelWords>(plan) + threadIdx.x);
  const auto counter = [&](int c, int count) {
    return reinterpret_cast<uint32_t*>(column + c * (plan.row_bytes / kColumns) + count * plan.row_bytes);
  };
  for (int count = 0; count < plan.n_counters; ++count) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) *counter(c, count) = 0;
  }
  walk_columns<kWords, kLabelWords, kAhead<kWords>>(pairs, relevance, plan, own, [&](const ColumnBatch<kColumns>& batch) { count_batch(batch, counter); });
  const int64_t n_query = plan.end_query - plan.first_query;
  uint32_t* to = partial.table + static_cast<int64_t>(column_shard(plan)) * plan.n_counters * n_query;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    if (!own.there[c]) continue;
    for (int count = 0; count < plan.n_counters; ++count) {
      to[count * n_query + (own.query[c] - plan.first_query)] = *counter(c, count);
    }
  }
}

// Calls begin(value, items, relevant) for all rank values, the best one first, with how many items and relevant items of the
// query are ranked before the first one at that value in this shard. Returns the totals.
template <class Begin>
__device__ __forceinline__ uint2 begin_counters(const ColumnPlan& plan, const uint32_t* table, int64_t n_query, bool ascending,
                                                Begin begin) {
  constexpr int kTogether = 4;  // so that many reads are on their way
  const auto shard = static_cast<int64_t>(column_shard(plan)), shard_step = plan.n_counters * n_query;
  uint32_t items = 0, relevant = 0;  // of smaller rank values
  for (int first = 0; first < plan.n_counters; first += kTogether) {
    uint2 all[kTogether] = {}, before[kTogether] = {};
#pragma unroll 4
    for (int64_t s = 0; s < plan.n_shards; ++s) {
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int value = first + i < plan.n_counters ? first + i : plan.n_counters - 1;
        const uint32_t both = table[s * shard_step + (ascending ? value : plan.n_counters - 1 - value) * n_query];
        all[i].x += both & 0xFFFF, all[i].y += both >> 16;
        if (s < shard) before[i].x += both & 0xFFFF, before[i].y += both >> 16;
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int value = first + i;
      if (value >= plan.n_counters) break;
      begin(value, items + before[i].x, relevant + before[i].y);
      items += all[i].x, relevant += all[i].y;
    }
  }
  return {items, relevant};
}

template <int kWords, int kLabelWords, Walk kWalk>
__global__ void __launch_bounds__(kMostColumns, kWords <= 2 ? 5 : kWords == 4 ? 4 : 3)
    order_kernel(Pairs pairs, Relevance relevance, ColumnPlan plan, Partial partial, OrderedTask task) {
  const OwnColumns<1> own = own_columns<1>(plan);
  auto* column = reinterpret_cast<unsigned char*>(column_table<kWords, kLabelWords>(plan) + threadIdx.x);
  const auto counter = [&](int count) { return reinterpret_cast<uint32_t*>(column + count * plan.row_bytes); };
  auto* shared = dynamic_shared<unsigned char>();
  const int queue = static_cast<int>(column - shared) + (kWalk == Walk::wide ? 2 : 1) * plan.n_counters * plan.row_bytes;
  const int64_t n_query = plan.end_query - plan.first_query, in_launch = own.query[0] - plan.first_query;
  const bool ascending = pairs.score == Score::hamming;
  auto cut = static_cast<uint32_t>(task.k);
  int n_inside = 0;  // rank values that can be inside the cut
  const auto begin = [&](int value, uint32_t items, uint32_t relevant) {
    const int count = ascending ? value : plan.n_counters - 1 - value;
    if constexpr (kWalk == Walk::wide) {
      *counter(count) = items;
      *counter(count + plan.n_counters) = relevant;
    } else {  // from the cut on only that it is reached matters: no overflow
      *counter(count) = (items < cut ? items : cut) + (relevant << 16);
      n_inside = items < cut ? value + 1 : n_inside;
    }
  };
  const uint2 all = begin_counters(plan, partial.table + in_launch, n_query, ascending, begin);
  if (task.at_r) cut = all.y;
  const int least_inside = ascending ? 0 : plan.n_counters - n_inside;

  double sum = 0.0;
  uint32_t hits = 0, first = UINT32_MAX;
  const auto use = [&](uint32_t items, uint32_t relevant) {  // ranked before a relevant item
    if (items >= cut) return;
    ++hits;
    if (task.what == OrderedSum::precisions) sum += precision_at(relevant + 1, items + 1);
    else if (task.what == OrderedSum::discounts) sum += quick_discount(items + 1);
    else first = items < first ? items : first;
  };
  int end = queue;  // bytes, like `queue` from the begin of shared memory: a pointer would be kept twice, to store and to compare
  const auto push = [&](uint32_t entry) {
    *reinterpret_cast<uint32_t*>(shared + end) = entry;
    end += plan.row_bytes;
  };
  const auto empty_queue = [&] {
#pragma unroll 1
    for (int from = queue; from < end; from += plan.row_bytes) {
      const uint32_t entry = *reinterpret_cast<const uint32_t*>(shared + from);
      if constexpr (kWalk == Walk::direct) {
        use(entry & 0xFFFF, entry >> 16);
      } else if constexpr (kWalk == Walk::bounded) {
        uint32_t* at = counter(static_cast<int>((entry & 0xFFFF) >> 1));
        const uint32_t before = *at;
        *at = before + (entry & kRelevantItem);
        if (entry >> 16) use(before & 0xFFFF, before >> 16);
      } else {
        uint32_t* at = counter(static_cast<int>(entry >> kPlaceBits) + plan.n_counters);
        const uint32_t relevant = *at;
        *at = relevant + 1;
        use(entry & ((1u << kPlaceBits) - 1), relevant);
      }
    }
    end = queue;
  };
  const int full = queue + (kQueueSlots - kColumnBatch) * plan.row_bytes;
  walk_columns<kWords, kLabelWords, kAhead<kWords>>(pairs, relevance, plan, own, [&](const ColumnBatch<1>& batch) {
#pragma unroll
    for (int u = 0; u < kColumnBatch; ++u) {
      const int count = batch.counts[0][u];
      const uint32_t added = batch.added[0][u];
      if constexpr (kWalk == Walk::bounded) {  // what adds 0 may come along
        if (static_cast<unsigned>(count - least_inside) < static_cast<unsigned>(n_inside)) {
          push(added + 2 * static_cast<uint32_t>(count));
        }
      } else {
        uint32_t* at = counter(count);
        const uint32_t before = *at;
        *at = before + (kWalk == Walk::wide ? added & 0xFFFF : added);
        if (added == kRelevantItem) {
          push(kWalk == Walk::wide ? before + (static_cast<uint32_t>(count) << kPlaceBits) : before);
        }
      }
    }
    if (__any_sync(kFullMask, end > full)) empty_queue();  // all lanes together, or each would be waited for
  });
  empty_queue();
  if (!own.there[0]) return;
  const auto shard = static_cast<int64_t>(column_shard(plan));
  const OrderedParts& parts = partial.parts;
  if (task.what == OrderedSum::count) sum = static_cast<double>(hits);
  if (task.what == OrderedSum::first && hits > 0) sum = 1.0 / (static_cast<double>(first) + 1.0);
  parts.sums[shard * n_query + in_launch] = sum;
  parts.hits[shard * n_query + in_launch] = hits;
  if (shard != 0) return;
  parts.items[in_launch] = all.x;
  parts.relevant[in_launch] = all.y;
}

// ---- how a call is cut ----

size_t ordered_shared_bytes(const Pairs& pairs, const ColumnPlan& plan, int label_words) {
  return column_shared_bytes(pairs, plan, label_words) + sizeof(uint32_t) * static_cast<size_t>(kQueueSlots * plan.columns);
}

// As many columns as fit, with counters of so many words; of few queries no more than there are.
void choose_ordered_columns(const Pairs& pairs, int counter_words, ColumnPlan& plan) {
  plan.lane_bits = 0;
  plan.counter_words = counter_words;
  plan.columns = kMostColumns;
  const auto shared = [&] { return ordered_shared_bytes(pairs, plan, kMostLabelWords); };
  while (plan.columns > kWarp && (shared() > kMostShared || 2 * (plan.end_query - plan.first_query) <= plan.columns)) {
    plan.columns /= 2;
  }
  plan.threads = plan.columns;
  plan.row_bytes = plan.columns * static_cast<int32_t>(sizeof(uint32_t));
  plan.n_groups = static_cast<uint32_t>(divide_up(plan.end_query - plan.first_query, plan.columns));
}

// The number of shards that makes the longest row of blocks on a multiprocessor shortest, in items; it depends on neither cut
// nor labels, so that the workspace does not.
void choose_ordered_shards(const Pairs& pairs, ColumnPlan& plan) {
  constexpr int64_t kBusy = 512, kMostAtOnce = 2048, kReservedShared = 1024;  // columns; bytes
  constexpr int64_t kItemsABlock = 64, kHalfItemsACounter = 8;  // what costs about as much as so many items
  const int64_t units = multiprocessors();
  int64_t at_once = shared_bytes_a_multiprocessor() /
                    (static_cast<int64_t>(ordered_shared_bytes(pairs, plan, 1)) + kReservedShared);
  at_once = at_once * plan.columns > kMostAtOnce ? kMostAtOnce / plan.columns : at_once < 1 ? 1 : at_once;
  const auto busy = [&](int64_t blocks) { return blocks * plan.columns > kBusy ? blocks * plan.columns : kBusy; };
  int64_t least = divide_up(pairs.n_db, kFewItems), best = 0;
  if (pairs.n_db <= kMostPlace || least > kMostOrderedShards) least = divide_up(pairs.n_db, kMostItemsALane);
  for (int64_t shards = least; shards <= kMostOrderedShards; ++shards) {
    const int64_t even = divide_up(pairs.n_db, shards), step = even < 1024 ? kWarp : 256;  // whole tiles, if there are some
    const int64_t items = divide_up(even, step) * step, n_shards = divide_up(pairs.n_db, items);
    const int64_t all = divide_up(plan.n_groups * n_shards, units), rest = all % at_once;
    const int64_t cost = (all / at_once * busy(at_once) + (rest > 0 ? busy(rest) : 0)) *
                         (items + kItemsABlock + (kHalfItemsACounter + n_shards) * plan.n_counters / 2);
    if (plan.n_shards != 0 && 40 * cost > 39 * best) continue;  // more shards have to be worth it
    best = cost;
    plan.shard_items = items;
    plan.n_shards = n_shards;
  }
}

ColumnPlan ordered_plan(const Pairs& pairs, const RowPlan& rows) {
  ColumnPlan plan{};
  plan.first_query = rows.first_query;
  plan.end_query = rows.end_query;
  plan.item_step = rows.item_step;
  plan.n_counters = 8 * pairs.n_bytes + 1;
  choose_ordered_columns(pairs, 1, plan);
  choose_ordered_shards(pairs, plan);
  return plan;
}

// Items that a cut lets in at most.
int64_t most_inside(const Pairs& pairs, const OrderedTask& task) {
  return task.at_r || task.k > pairs.n_db ? pairs.n_db : task.k;
}

Walk choose_walk(const Pairs& pairs, const ColumnPlan& plan, const OrderedTask& task) {
  const int64_t inside = most_inside(pairs, task);
  if (pairs.n_db > kMostPlace && inside + plan.shard_items > kMostPlace) return Walk::wide;
  return kBoundedShare * inside <= pairs.n_db ? Walk::bounded : Walk::direct;
}

}  // namespace

bool fits_index_columns(const Pairs& pairs) {
  constexpr int64_t kMostItems = kMostOrderedShards * kMostItemsALane;
  ColumnPlan narrowest{};
  narrowest.columns = kWarp;
  narrowest.n_counters = 8 * pairs.n_bytes + 1;
  narrowest.counter_words = 2;
  return pairs.n_query >= kFewestQueries && pairs.n_bytes <= 4 * kMostColumnWords && pairs.n_db > 0 &&
         pairs.n_db <= kMostItems && ordered_shared_bytes(pairs, narrowest, kMostLabelWords) <= kMostShared;
}

int64_t index_columns_workspace_bytes(const Pairs& pairs) {
  int64_t most = 0;
  for_each_chunk(pairs, plan_rows(pairs), [&](const RowPlan& rows) {
    const int64_t bytes = partial_bytes(rows.end_query - rows.first_query, ordered_plan(pairs, rows));
    most = bytes > most ? bytes : most;
    return 0;
  });
  return most;
}

int order_in_columns(const Pairs& pairs, const Relevance& relevance, const RowPlan& rows, const OrderedTask& task,
                     void* workspace, OrderedParts* parts, Stream stream) {
  ColumnPlan plan = ordered_plan(pairs, rows);
  const Partial partial = carve(workspace, rows.end_query - rows.first_query, plan);
  *parts = partial.parts;
  const Walk walk = choose_walk(pairs, plan, task);
  OrderedTask bounded = task;
  bounded.k = most_inside(pairs, task);
  const int labels = label_words_of(relevance) > 0 ? label_words_of(relevance) : 1;
  return with_padded_words(pairs.n_bytes, [&](auto words) {
    return with_words<4, 1>(labels, [&](auto label) {
      constexpr int kWords = decltype(words)::value, kLabelWords = decltype(label)::value;
      ColumnPlan count = plan;
      if (kCountColumns<kWords> == 2 && count.columns == kWarp) {  // half a warp is none
        count.columns *= 2, count.row_bytes *= 2;
        count.n_groups = static_cast<uint32_t>(divide_up(count.end_query - count.first_query, count.columns));
      }
      count.threads = count.columns / kCountColumns<kWords>;
      const auto start = [&](auto* kernel, const ColumnPlan& cut, size_t shared, auto... task_or_none) {
        return launch(kernel, grid_of(cut.n_blocks()), dim3(static_cast<unsigned>(cut.threads)), shared, stream, pairs,
                      relevance, cut, partial, task_or_none...);
      };
      const int failed = start(count_kernel<kWords, kLabelWords>, count, column_shared_bytes(pairs, count, labels));
      if (failed) return failed;
      auto* kernel = &order_kernel<kWords, kLabelWords, Walk::direct>;
      if (walk == Walk::bounded) kernel = &order_kernel<kWords, kLabelWords, Walk::bounded>;
      if (walk == Walk::wide) {
        kernel = &order_kernel<kWords, kLabelWords, Walk::wide>;
        choose_ordered_columns(pairs, 2, plan);
      }
      return start(kernel, plan, ordered_shared_bytes(pairs, plan, labels), bounded);
    });
  });
}

}  // namespace dshc::cuda
