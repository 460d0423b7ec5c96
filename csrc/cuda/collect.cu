// Top-k in one pass (collect.h): how a call is cut, its workspace, and the order of its launches.
//
//     first bounds, of a sample and of the prefix - the walk that collects - order - (where needed) two passes
//
// The sample is every m-th item, 4,096 or, of many queries, up to 16,384 of them, but at least 16 k, so that the walk begins with
// bounds that let few through and ends having collected about k (1 + log(n / sample)) keys a query. The prefix is 16 k items or two tiles.
// Queries go in chunks, which bounds the workspace; a chunk of the usual size holds thousands.
#include "collect.h"

#include "ordered_items.h"
#include "value_counts.h"

namespace dshc::cuda {
namespace {

constexpr int64_t kMmaQueries = 4;
constexpr int64_t kFewQueries = 8;
constexpr int64_t kKeyMemory = int64_t{1} << 28, kFewKeys = 4096, kManyKeys = 65536, kMostChunk = 16384;

int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : (x > high ? high : x); }

int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

int64_t key_capacity(int64_t n_query, int64_t k, const CollectTuning& tuning) {
  if (tuning.capacity > 0) return tuning.capacity;
  const int64_t least = 16 * k > kFewKeys ? 16 * k : kFewKeys;
  const int64_t share = kKeyMemory / (8 * (n_query > 0 ? n_query : 1)), most = least > kManyKeys ? least : kManyKeys;
  // Of one query with many answers more: over a very large database a bound falls so long that 16 k do not always do.
  return n_query <= kFewQueries ? clamp(share, least, 4 * most) : clamp(share, least, most);
}

// Of every m-th item, as many as let no more than a quarter of a query's keys through of what is in flight at first. What one
// query collects beyond its answer costs less than a larger sample would.
int64_t sample_items(const Pairs& pairs, int64_t k, int64_t capacity, int64_t in_flight, const CollectTuning& tuning) {
  int64_t items = clamp(pairs.n_db / 64, 4096, pairs.n_query > kFewQueries ? 16384 : 4096);
  if (items < 16 * k) items = 16 * k;
  const int64_t held = in_flight < pairs.n_db ? in_flight : pairs.n_db;
  if (items < 4 * k * held / capacity) items = 4 * k * held / capacity;
  if (tuning.sample_items > 0) items = tuning.sample_items;
  return clamp(items, 1, pairs.n_db);
}

// Queries whose workspace exists at once.
int64_t chunk_of(const Pairs& pairs, int64_t k, const CollectTuning& tuning) {
  int64_t chunk = clamp(kKeyMemory / (8 * key_capacity(pairs.n_query, k, tuning)), tuning.group, kMostChunk);
  if (tuning.chunk > 0) chunk = tuning.chunk;
  return clamp(pairs.n_query, 1, chunk);
}

// Long codes take more shared memory, of which not every device grants a block as much as 9.0 does.
int64_t most_group(int n_bytes, int64_t wanted) {
  constexpr int kLongest = 96, kForLongest = 110 * 1024;
  const int64_t most = n_bytes <= kMostCodeBytes ? wanted
                       : n_bytes > kLongest && shared_bytes_a_block() < kForLongest ? 64
                                                                                    : 128;
  return wanted < most ? wanted : most;
}

Pairs chunk_pairs(const Pairs& pairs, int64_t first, int64_t n) {
  Pairs chunk = pairs;
  chunk.queries += first * pairs.n_bytes;
  chunk.n_query = n;
  if (pairs.allowed) chunk.allowed += first * pairs.allowed_stride;
  return chunk;
}

CollectPlan plan_collect(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning) {
  CollectPlan plan{};
  plan.n_query = pairs.n_query;
  plan.n_values = 8 * pairs.n_bytes + 1;
  plan.group = static_cast<int32_t>(clamp(round_up(pairs.n_query, 8), 8, most_group(pairs.n_bytes, tuning.group)));
  plan.n_groups = static_cast<int32_t>(divide_up(pairs.n_query, plan.group));
  plan.k = k;
  plan.capacity = key_capacity(pairs.n_query, k, tuning);
  plan.fixed_bound = -1;
  plan.sort_keys = sort_keys_for(k);
  plan.first_item = tuning.first_item;
  plan.count_every = tuning.count_every;
  if (plan.count_every == 0) {
    for (plan.count_every = 32; plan.count_every < k / 4;) plan.count_every *= 2;
  }
  // Pieces for all blocks to draw several times, of one tile at first; larger ones only where the queries are few.
  const int64_t resident = (kernel == TopkKernel::mma ? kMmaBlocks : kPopcBlocks) * multiprocessors();
  const int64_t tiles = divide_up(pairs.n_db - tuning.first_item, kTicketTile);
  const int64_t drawn = divide_up(resident, plan.n_groups);  // by as many blocks
  plan.sample_items = sample_items(pairs, k, plan.capacity, drawn * kTicketTile, tuning);
  const int64_t prefix = tuning.prefix_tiles >= 0 ? tuning.prefix_tiles : divide_up(16 * k > 4096 ? 16 * k : 4096, kTicketTile);
  plan.n_prefix = clamp(prefix, 0, tiles);
  plan.n_small = clamp(plan.n_prefix > 2 * drawn ? plan.n_prefix : 2 * drawn, 0, tiles);
  // A draw costs a few queries more time than a tile does.
  const int64_t draws = pairs.n_query > kFewQueries ? 8 : 4;
  plan.tiles_per_ticket = clamp((tiles - plan.n_small) / (draws * drawn), 1, 16);
  plan.n_tickets = plan.n_small + divide_up(tiles - plan.n_small, plan.tiles_per_ticket);
  plan.blocks = clamp(plan.n_groups * plan.n_tickets, 1, resident);
  return plan;
}

struct Workspace {
  Collected collected;
  int64_t *sample, *prefix;  // [n_query, n_values] histograms
  int32_t* needed;   // [n_query]
  void* two_passes;
  void* zeroed;      // what begins at 0
  int64_t zeroed_bytes, bytes;
};

// Parts of 16 bytes and more first to last, so that each is aligned; base may be null to learn the size.
Workspace carve(const Pairs& chunk, const CollectPlan& plan, void* base) {
  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    const int64_t begin = at;
    at += round_up(bytes, 16);
    return base ? static_cast<char*>(base) + begin : nullptr;
  };
  const int64_t n = plan.n_query, table = plan.fixed_bound < 0 ? n * plan.n_values : 0;
  Workspace space{};
  space.zeroed = take(0);
  space.sample = reinterpret_cast<int64_t*>(take(table * 8));
  space.prefix = reinterpret_cast<int64_t*>(take(table * 8));
  space.collected.seen = reinterpret_cast<unsigned*>(take(table * 4));
  space.collected.found = reinterpret_cast<unsigned long long*>(take(n * 8));
  space.collected.tickets = reinterpret_cast<unsigned long long*>(take(int64_t{8} * plan.n_groups));
  space.zeroed_bytes = at;
  space.collected.bounds = reinterpret_cast<int*>(take(n * 4));
  space.collected.prefix_bounds = reinterpret_cast<int*>(take(n * 4));
  space.needed = reinterpret_cast<int32_t*>(take(n * 4));
  space.collected.keys = reinterpret_cast<uint64_t*>(take(n * plan.capacity * 8));
  space.two_passes = take(ordered_workspace_bytes(chunk));
  space.bytes = at;
  return space;
}

// Of every step-th item, n of them.
int count_some(const Pairs& chunk, int64_t step, int64_t n, int32_t n_values, int64_t* histogram, Stream stream) {
  Pairs some = chunk;
  some.n_db = n;
  RowPlan rows = plan_rows(some);
  rows.item_step = step;
  const ValueCounts counts{histogram, nullptr, false, 0, n_values, false};
  return for_each_chunk(some, rows, [&](const RowPlan& part) {
    return count_values(some, Relevance{}, part, counts, stream);
  });
}

int find_first_bounds(const Pairs& chunk, const CollectPlan& plan, const Workspace& space, Stream stream) {
  const int64_t step = chunk.n_db / plan.sample_items, n_sample = chunk.n_db / step;
  const int64_t n_prefix = plan.n_prefix * kTicketTile < chunk.n_db ? plan.n_prefix * kTicketTile : chunk.n_db;
  if (counts_with_bounds(n_sample, n_prefix)) {
    return counted_bounds(chunk, plan, space.collected, n_sample, step, n_prefix, stream);
  }
  int status = fill_zero(space.zeroed, space.zeroed_bytes, stream);
  if (!status) status = count_some(chunk, step, n_sample, plan.n_values, space.sample, stream);
  if (!status && n_prefix > 0) status = count_some(chunk, 1, n_prefix, plan.n_values, space.prefix, stream);
  return status ? status : first_bounds(space.sample, space.prefix, plan, space.collected, stream);
}

// Of radius search: no keys, no sample and nothing seen. `most`: keys of a query that are sorted in shared memory.
CollectPlan plan_radius(const Pairs& chunk, int32_t bound, int64_t most) {
  CollectPlan plan = plan_collect(chunk, 1, collecting_kernel(TopkKernel::automatic, chunk), {});
  plan.fixed_bound = bound;
  plan.capacity = 0;
  plan.sort_keys = sort_keys_for(most);
  return plan;
}

// Twice a query's share of n_found, which is common, or the share alone, which can_collect_radius() has let through.
int64_t most_of_a_query(const Pairs& pairs, int64_t n_found) {
  const int64_t share = n_found / pairs.n_query;
  return sort_keys_for(2 * share) > 0 ? 2 * share : share;
}

// The largest workspace of a whole chunk, or of a last, shorter one, which is cut into more shards.
template <class Bytes>
int64_t bytes_of_chunks(const Pairs& pairs, int64_t n_chunk, Bytes bytes) {
  const int64_t rest = pairs.n_query % n_chunk, whole = bytes(chunk_pairs(pairs, 0, n_chunk));
  const int64_t last = rest > 0 ? bytes(chunk_pairs(pairs, 0, rest)) : 0;
  return whole > last ? whole : last;
}

}  // namespace

TopkKernel collecting_kernel(TopkKernel kernel, const Pairs& pairs) {
  // Measured on compute capability 9.0 alone (docs/results/gpu-h200.md).
  const bool faster = pairs.n_query >= kMmaQueries || pairs.n_bytes > kMostCodeBytes;
  if (kernel == TopkKernel::automatic && faster && compute_capability() == 90) kernel = TopkKernel::mma;
  return kernel == TopkKernel::mma && has_bit_products() ? TopkKernel::mma : TopkKernel::popc;
}

int sort_keys_for(int64_t n) {
  if (n <= kFewSortKeys / 2) return kFewSortKeys;
  // Beside the keys order_collected() needs little.
  const bool granted = shared_bytes_a_block() >= kManySortKeys * 8 + 4096;
  return granted && n <= kManySortKeys / 8 * 5 ? kManySortKeys : 0;
}

bool can_collect(const Pairs& pairs, int64_t k, TopkKernel kernel) {
  const int most = kernel == TopkKernel::mma ? kMostLongBytes : kMostCodeBytes;
  return pairs.n_bytes <= most && sort_keys_for(k) > 0 && pairs.n_db < int64_t{1} << kValueShift;
}

bool can_collect_radius(const Pairs& pairs, int64_t n_found) {
  return can_collect(pairs, 1, collecting_kernel(TopkKernel::automatic, pairs)) &&
         sort_keys_for(n_found / (pairs.n_query > 0 ? pairs.n_query : 1)) > 0;
}

bool counts_by_products(const Pairs& pairs) {
  const TopkKernel kernel = collecting_kernel(TopkKernel::automatic, pairs);
  return pairs.n_db > 0 && kernel == TopkKernel::mma && can_collect(pairs, 1, kernel);
}

int count_by_products(const Pairs& pairs, int32_t bound, int64_t* found, Stream stream) {
  return count_mma(pairs, plan_radius(pairs, bound, 1), found, stream);
}

int64_t collect_workspace_bytes(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning) {
  return bytes_of_chunks(pairs, chunk_of(pairs, k, tuning), [&](const Pairs& chunk) {
    return carve(chunk, plan_collect(chunk, k, kernel, tuning), nullptr).bytes;
  });
}

Collected collected_in(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning, void* workspace) {
  const Pairs chunk = chunk_pairs(pairs, 0, chunk_of(pairs, k, tuning));
  return carve(chunk, plan_collect(chunk, k, kernel, tuning), workspace).collected;
}

int collect_topk(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning, int32_t* counts,
                 int64_t* indices, void* workspace, Stream stream) {
  const int64_t n_chunk = chunk_of(pairs, k, tuning);
  for (int64_t first = 0; first < pairs.n_query; first += n_chunk) {
    const int64_t n = first + n_chunk < pairs.n_query ? n_chunk : pairs.n_query - first;
    const Pairs chunk = chunk_pairs(pairs, first, n);
    const CollectPlan plan = plan_collect(chunk, k, kernel, tuning);
    const Workspace space = carve(chunk, plan, workspace);
    int status = find_first_bounds(chunk, plan, space, stream);
    const auto collect = kernel == TopkKernel::mma ? collect_mma : collect_popc;
    if (!status) status = collect(chunk, plan, space.collected, stream);
    int32_t* to_counts = counts + first * k;
    int64_t* to_indices = indices + first * k;
    if (!status) status = order_collected(chunk, plan, space.collected, to_counts, to_indices, space.needed, stream);
    const OrderedOutput output{nullptr, k, plan.n_values, to_indices, to_counts, space.needed};
    if (!status) status = write_ordered(chunk, output, space.two_passes, stream);
    if (status) return status;
  }
  return 0;
}

int64_t collect_radius_workspace_bytes(const Pairs& pairs) {
  return bytes_of_chunks(pairs, clamp(pairs.n_query, 1, kMostChunk), [](const Pairs& chunk) {
    return carve(chunk, plan_radius(chunk, 0, 1), nullptr).bytes;
  });
}

int collect_radius(const Pairs& pairs, int32_t bound, int64_t n_found, const int64_t* offsets, int64_t* indices,
                   int32_t* counts, void* workspace, Stream stream) {
  const int64_t most = most_of_a_query(pairs, n_found);
  for (int64_t first = 0; first < pairs.n_query; first += kMostChunk) {
    const int64_t n = first + kMostChunk < pairs.n_query ? kMostChunk : pairs.n_query - first;
    const Pairs chunk = chunk_pairs(pairs, first, n);
    const CollectPlan plan = plan_radius(chunk, bound, most);
    Workspace space = carve(chunk, plan, workspace);
    space.collected.offsets = offsets + first;
    space.collected.keys = reinterpret_cast<uint64_t*>(indices);
    int status = fill_zero(space.zeroed, space.zeroed_bytes, stream);
    const bool products = collecting_kernel(TopkKernel::automatic, chunk) == TopkKernel::mma;
    if (!status) status = (products ? collect_mma : collect_popc)(chunk, plan, space.collected, stream);
    if (!status) status = order_collected(chunk, plan, space.collected, counts, indices, space.needed, stream);
    const OrderedOutput output{offsets + first, INT64_MAX, bound, indices, counts, space.needed};
    if (!status) status = write_ordered(chunk, output, space.two_passes, stream);
    if (status) return status;
  }
  return 0;
}

}  // namespace dshc::cuda
