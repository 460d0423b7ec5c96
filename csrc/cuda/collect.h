// Top-k in one pass over the database: items below their query's falling bound are collected, and the few that were are
// put in order (collect.cu says how the parts go together). Radius search, whose bound stands still, likewise.
//
// The bound. Items enter with a rank value below their query's bound. It begins at what a sample of the database allows, and
// what its first tiles do, and falls: whoever collects an item counts it in `seen`, and now and then the counts are added
// up. As soon as k items of value v or better are collected, nothing above v can be in the answer.
//
// Ties. Learned codes put thousands of items at one distance, and of those the lowest indices are wanted. So blocks draw
// their pieces of the database from a ticket, in the order of the index, and read the bounds *before* they draw: every
// item counted by then lies in a piece drawn earlier, so its index is lower, and k of value v shut out v itself. What all
// blocks hold in hand at first knows nothing of one another, hundreds of thousands of items on a large GPU; therefore the
// first tiles, the *prefix*, are counted ahead, and k of value v among them shut v out of all the rest. So a tie is collected
// about k times and not as often as it occurs. A bound that is read late is only weaker: the answer never depends on how
// blocks run, because key (value, index) is unique and whatever could be in the answer is collected.
//
// Bounded memory. A query's keys beyond `capacity` are counted and not kept; its answer then comes from the two passes of
// ordered_items.cu, launched always and left at once by blocks that have nothing to do: no wait, no branch on the host.
#pragma once
#include "../core/hamming_topk.h"
#include "../core/types.h"
#include "launch.h"

namespace dshc::cuda {

constexpr int kCollectThreads = 256;
constexpr int kPopcBlocks = 3, kMmaBlocks = 2;  // of them on a multiprocessor, by registers
constexpr int kTicketTile = 2048;     // items; what a block takes at least, a multiple of both kernels' steps
constexpr int kFewSortKeys = 4096;    // in shared memory: an answer and as much of its last tie as fits
constexpr int kManySortKeys = 16384;  // where a device grants a block so much
constexpr int kMostCodeBytes = 32;    // of a code in registers
constexpr int kMostLongBytes = 128;   // of a code that tensor cores go through in chunks
constexpr int kValueShift = 48;       // of the rank value in a key; the index takes the bits below

// What tests make small so that small inputs meet every path.
struct CollectTuning {
  int64_t capacity = 0;        // keys a query; 0: by k
  int64_t sample_items = 0;    // 0: by n and k
  int64_t chunk = 0;           // queries whose workspace exists at once; 0: by memory
  int32_t group = 256;         // queries per block at most
  int32_t count_every = 0;     // a query's bound is looked at again after so many of its items, a power of two; 0: by k
  int64_t prefix_tiles = -1;   // -1: by k; 0 where the walk does not begin at item 0
  int64_t first_item = 0;      // the walk begins there; the items before are answered nowhere
};

struct CollectPlan {
  int64_t n_query;             // of this chunk
  int32_t n_groups;            // of them; a group of queries shares a block's shared memory
  int32_t group, n_values;
  int64_t first_item;          // where the walk begins
  int64_t n_tickets;           // of each group
  int64_t n_small;             // the first tickets are one tile each, so that the bounds fall before much is in flight
  int64_t n_prefix;            // of those, the ones that lie in the prefix
  int64_t tiles_per_ticket;    // of the others
  int64_t blocks;
  int64_t k, capacity, sample_items;
  int32_t count_every;
  int32_t fixed_bound;         // of radius search, all queries'; -1: top-k
  int32_t sort_keys;           // that shared memory has room for; a power of two
};

// Of the queries of a chunk.
struct Collected {
  uint64_t* keys;              // [n_query, capacity]: rank value << kValueShift | index, in no order
  unsigned long long* found;   // [n_query], those that were not kept included
  unsigned* seen;              // [n_query, n_values] how many were found at each rank value
  int* bounds;                 // [n_query] items of a lower rank value enter
  int* prefix_bounds;          // [n_query] and these, in the prefix
  unsigned long long* tickets; // [n_groups]
  // Radius search, else null: where a query's keys begin, [n_query + 1]; there is room for all of them, and nothing in `seen`.
  const int64_t* offsets;
};

// So many keys that shared memory has room for `n` of them and a tie behind; 0 if the device grants no block so much.
int sort_keys_for(int64_t n);

// `popc` or `mma`, whichever of them is asked for and can be had; for `automatic` the one that is faster.
TopkKernel collecting_kernel(TopkKernel kernel, const Pairs& pairs);

// `kernel`: what collecting_kernel() says.
bool can_collect(const Pairs& pairs, int64_t k, TopkKernel kernel);

int64_t collect_workspace_bytes(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning);
int collect_topk(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning, int32_t* counts,
                 int64_t* indices, void* workspace, Stream stream);

// Radius search, as hamming_radius_fill. Keys come to lie where their query's indices will; as many as can be sorted in
// shared memory are, and queries with more take the two passes.
bool can_collect_radius(const Pairs& pairs, int64_t n_found);
int64_t collect_radius_workspace_bytes(const Pairs& pairs);
int collect_radius(const Pairs& pairs, int32_t bound, int64_t n_found, const int64_t* offsets, int64_t* indices,
                   int32_t* counts, void* workspace, Stream stream);

// Whether tensor cores count the items of a radius search, and the counting: adds to found [n_query] how many lie below the
// bound.
bool counts_by_products(const Pairs& pairs);
int count_by_products(const Pairs& pairs, int32_t bound, int64_t* found, Stream stream);

// Where a top-k call collects its first chunk.
Collected collected_in(const Pairs& pairs, int64_t k, TopkKernel kernel, const CollectTuning& tuning, void* workspace);

// The walk over the database, by population counts and on the tensor cores.
int collect_popc(const Pairs& pairs, const CollectPlan& plan, const Collected& to, Stream stream);
int collect_mma(const Pairs& pairs, const CollectPlan& plan, const Collected& to, Stream stream);
int count_mma(const Pairs& pairs, const CollectPlan& plan, int64_t* found, Stream stream);

// The first bounds, and zeros where zeros are needed, from every step-th item and from the first n_prefix, where they are few
// enough; else from their histograms, each [n_query, n_values], and nothing is zeroed.
bool counts_with_bounds(int64_t n_sample, int64_t n_prefix);
int counted_bounds(const Pairs& pairs, const CollectPlan& plan, const Collected& to, int64_t n_sample, int64_t step,
                   int64_t n_prefix, Stream stream);
int first_bounds(const int64_t* sample, const int64_t* prefix, const CollectPlan& plan, const Collected& to, Stream stream);

// The answers from what was collected. needed [n_query] is set to 1 where more was found than kept, else to 0.
int order_collected(const Pairs& pairs, const CollectPlan& plan, const Collected& from, int32_t* counts, int64_t* indices,
                    int32_t* needed, Stream stream);

}  // namespace dshc::cuda
