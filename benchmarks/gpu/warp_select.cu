// A peer to compare hamming_topk with: exact search of binary codes by the method of faiss's GpuIndexBinaryFlat, which has
// no package for the machine that is measured. Written anew from the description of the method, in the fastest form of it
// that we know.
//
// * XOR and a population count of each 32-bit word. Each warp serves one query; its code is in registers.
// * A block copies the database to shared memory tile by tile, for its eight warps; the next tile is on its way while
//   one is worked on.
// * The k nearest are kept by WarpSelect (warp_select.cuh).
//
// What faiss does not do: a warp votes once for several items of each lane; the database is cut over blocks where there are
// fewer queries than the device can run warps, and over the warps of a block where there are fewer than eight. A second
// kernel merges the lists, by WarpSelect too. Places are 32-bit numbers within a part of the database, not 64-bit ones.
//
// Limits: codes of 4, 8, 16 and 32 bytes, arrays at addresses that are multiples of 16, k up to 2048, a device of
// capability 8.0 or higher. WARP_SELECT_ROWS, the rows of the queue, is 1, 2, 4, ... 64: from k / 32.
#include "code_tiles.cuh"
#include "warp_select.cuh"

namespace dshc::peer {
namespace {

using cuda::divide_up;
using cuda::Stream;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kCopies = kTileVectors / kThreads;
constexpr int kMergeThreads = 128;
constexpr int kMergeTogether = 4;       // lists that a merging warp reads at a time
constexpr int64_t kMergeDirectly = 64;  // lists that one warp merges alone
constexpr int64_t kLeastTiles = 4;      // of a segment
constexpr int64_t kMostItems = int64_t{1} << 30;  // of a segment: places are 32-bit numbers

// Blocks on a multiprocessor, by the registers that a queue of so many rows takes.
constexpr int resident(int rows) { return rows <= 4 ? 4 : rows <= 8 ? 3 : rows <= 32 ? 2 : 1; }
// As faiss, by its table of thread queues.
constexpr int buffer_of(int rows) { return rows <= 1 ? 2 : rows <= 4 ? 3 : rows <= 8 ? 4 : 8; }
template <int kRows>
using Select = WarpSelect<kRows, buffer_of(kRows)>;

struct Lists {
  int32_t* distances;  // [n_query, n_lists, k], ascending; kNone where a list has fewer
  int64_t* indices;    // [n_query, n_lists, k]
  int64_t n_lists;
};

struct Scan {
  const uint32_t* queries;   // [n_query, words]
  const uint32_t* database;  // [n_db, words]
  int64_t n_query, n_db;
  int64_t segment_items;  // a multiple of a tile's
  int64_t query_groups;
  int queries_a_block;  // 1, 2, 4 or 8; the other warps share the tiles of a query
  int k;
};

template <int kWords, int kRows>
__global__ void __launch_bounds__(kThreads, resident(kRows)) scan_kernel(Scan scan, Lists lists) {
  using Tile = Tile<kWords>;
  constexpr int kTogether = Tile::kTogether;
  uint4* tiles = cuda::dynamic_shared<uint4>();  // two

  const int64_t group = static_cast<int64_t>(blockIdx.x) % scan.query_groups;
  const int64_t segment = static_cast<int64_t>(blockIdx.x) / scan.query_groups;
  const int64_t query = group * scan.queries_a_block + cuda::warp() % scan.queries_a_block;
  const int slice = cuda::warp() / scan.queries_a_block, slices = kWarps / scan.queries_a_block;
  const bool served = query < scan.n_query;  // a warp without a query copies tiles with the others

  const int64_t begin = segment * scan.segment_items;
  const int64_t left = scan.n_db - begin;
  const int n_items = static_cast<int>(left < scan.segment_items ? left : scan.segment_items);
  const int n_tiles = (n_items + Tile::kItems - 1) / Tile::kItems;
  const uint4* database = reinterpret_cast<const uint4*>(scan.database + begin * kWords);
  const int64_t n_bytes = static_cast<int64_t>(n_items) * kWords * 4;

  uint32_t code[kWords];
#pragma unroll
  for (int w = 0; w < kWords; ++w) code[w] = served ? scan.queries[query * kWords + w] : 0;

  Select<kRows> select(scan.k);
  if (!served) select.close();

  const auto copy = [&](int tile) {
    uint4* to = tiles + (tile & 1) * Tile::kVectors;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int vector = i * kThreads + static_cast<int>(threadIdx.x);
      const int64_t at = static_cast<int64_t>(tile) * kTileVectors + vector, left = n_bytes - 16 * at;
      const int there = left >= 16 ? 16 : left > 0 ? static_cast<int>(left) : 0;
      begin_copy(to + Tile::place(vector), there > 0 ? database + at : database, there);
    }
  };

  copy(0);
  copies_arrive();
  __syncthreads();
  for (int tile = 0; tile < n_tiles; ++tile) {
    // Into the tile that was last read before the last barrier.
    if (tile + 1 < n_tiles) copy(tile + 1);
    const uint4* now = tiles + (tile & 1) * Tile::kVectors;
    const int first = tile * Tile::kItems;
    const int step = slices * kTogether * kWarp;
    // The last items of all make the queue final: here, as a second merge behind the loop would double the code.
    const int final_from = tile + 1 == n_tiles ? Tile::kItems - step : Tile::kItems;
#pragma unroll 1
    for (int item = slice * kTogether * kWarp + lane(); item < Tile::kItems; item += step) {
      int32_t least = kNone;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) least = min(least, Tile::distance(now, item + i * kWarp, code));
      if (!__any_sync(kFullMask, least < select.bound() || item >= final_from)) continue;
      // A loop, for the same reason, and distances anew: few rounds come here, and the others need the registers. Items
      // behind the end are left out only here.
#pragma unroll 1
      for (int i = 0; i < kTogether; ++i) {
        const int place = first + item + i * kWarp;
        const int32_t distance = place < n_items ? Tile::distance(now, item + i * kWarp, code) : kNone;
        select.add(distance, static_cast<uint32_t>(place), item >= final_from && i == kTogether - 1);
      }
    }
    copies_arrive();
    __syncthreads();
  }

  if (!served) return;
  const int64_t to = (query * lists.n_lists + segment * slices + slice) * scan.k;
  select.each([&](int rank, int32_t distance, uint32_t place) {
    lists.distances[to + rank] = distance;
    lists.indices[to + rank] = distance == kNone ? -1 : begin + place;
  });
}

// Each warp merges `together` lists of one query.
template <int kRows>
__global__ void __launch_bounds__(kMergeThreads) merge_kernel(Lists from, int64_t n_query, int64_t together, int k,
                                                              Lists to) {
  const int64_t number = static_cast<int64_t>(blockIdx.x) * (kMergeThreads / kWarp) + cuda::warp();
  const int64_t query = number / to.n_lists, list = number % to.n_lists;
  if (query >= n_query) return;
  const int64_t begin = list * together;
  const int n_lists = static_cast<int>(min(together, from.n_lists - begin));
  const int32_t* distances = from.distances + (query * from.n_lists + begin) * k;
  const int64_t* indices = from.indices + (query * from.n_lists + begin) * k;

  Select<kRows> select(k);
#pragma unroll 1
  for (int first = 0; first < n_lists; first += kMergeTogether) {
#pragma unroll 1
    for (int row = 0; row < k; row += kWarp) {
      const auto distance = [&](int list) {
        return list < n_lists && row + lane() < k ? distances[list * k + row + lane()] : kNone;
      };
      int32_t least = kNone;
#pragma unroll
      for (int i = 0; i < kMergeTogether; ++i) least = min(least, distance(first + i));
      // The lists ascend: no row behind this one has anything to give.
      if (!__any_sync(kFullMask, least < select.bound())) break;
#pragma unroll 1
      for (int list = first; list < first + kMergeTogether; ++list) {
        select.add(distance(list), static_cast<uint32_t>(list * k + row + lane()));
      }
    }
  }
  select.merge();
  const int64_t at = number * k;
  select.each([&](int rank, int32_t distance, uint32_t place) {
    to.distances[at + rank] = distance;
    to.indices[at + rank] = distance == kNone ? -1 : indices[place];
  });
}

struct Plan {
  int queries_a_block;
  int64_t query_groups, segment_items, n_segments;
  int64_t n_lists, merged_lists;  // of a query: after the scan; after a first merge, where there are two (else 0)
};

Plan plan_of(int64_t n_query, int64_t n_db, int n_words) {
  Plan plan{};
  plan.queries_a_block = 1;
  while (plan.queries_a_block < kWarps && plan.queries_a_block < n_query) plan.queries_a_block *= 2;
  plan.query_groups = divide_up(n_query, plan.queries_a_block);
  // As many segments as fill the device once.
  const int64_t tile = kTileVectors * 4 / n_words, tiles = divide_up(n_db, tile);
  int64_t segments = cuda::multiprocessors() * resident(WARP_SELECT_ROWS) / plan.query_groups;
  segments = min(segments, divide_up(tiles, kLeastTiles));
  segments = max(segments, divide_up(n_db, kMostItems));
  plan.segment_items = divide_up(tiles, max(segments, int64_t{1})) * tile;
  plan.n_segments = divide_up(n_db, plan.segment_items);
  plan.n_lists = plan.n_segments * (kWarps / plan.queries_a_block);
  if (plan.n_lists > kMergeDirectly) {
    int64_t together = 1;
    while (together * together < plan.n_lists) ++together;
    plan.merged_lists = divide_up(plan.n_lists, together);
  }
  return plan;
}

// Lists in a workspace: indices first, so that both are aligned.
struct Workspace {
  unsigned char* at;
  int64_t used = 0;

  Lists lists(int64_t n_query, int64_t n_lists, int k) {
    const int64_t n = n_query * n_lists * k;
    Lists made{reinterpret_cast<int32_t*>(at + used + 8 * n), reinterpret_cast<int64_t*>(at + used), n_lists};
    used += divide_up(12 * n, 16) * 16;
    return made;
  }
};

template <int kWords, int kRows>
int run_scan(const Scan& scan, const Plan& plan, Lists to, Stream stream) {
  return cuda::launch(scan_kernel<kWords, kRows>, cuda::grid_of(plan.query_groups * plan.n_segments), dim3(kThreads),
                      2 * Tile<kWords>::kVectors * sizeof(uint4), stream, scan, to);
}

template <int kRows>
int run_merge(Lists from, int64_t n_query, int64_t together, int k, Lists to, Stream stream) {
  const int64_t warps = n_query * to.n_lists;
  return cuda::launch(merge_kernel<kRows>, cuda::grid_of(divide_up(warps, kMergeThreads / kWarp)), dim3(kMergeThreads),
                      0, stream, from, n_query, together, k, to);
}

template <int kRows>
int run(const Scan& scan, const Plan& plan, int n_words, Workspace workspace, Lists answer, Stream stream) {
  const bool whole = plan.n_lists == 1;
  const Lists scanned = whole ? answer : workspace.lists(scan.n_query, plan.n_lists, scan.k);
  auto* run_words = n_words == 1   ? run_scan<1, kRows>
                    : n_words == 2 ? run_scan<2, kRows>
                    : n_words == 4 ? run_scan<4, kRows>
                                   : run_scan<8, kRows>;
  if (const int status = run_words(scan, plan, scanned, stream); status != 0 || whole) return status;
  Lists from = scanned;
  if (plan.merged_lists != 0) {
    const Lists merged = workspace.lists(scan.n_query, plan.merged_lists, scan.k);
    const int64_t together = divide_up(plan.n_lists, plan.merged_lists);
    if (const int status = run_merge<kRows>(from, scan.n_query, together, scan.k, merged, stream); status != 0) {
      return status;
    }
    from = merged;
  }
  return run_merge<kRows>(from, scan.n_query, from.n_lists, scan.k, answer, stream);
}

}  // namespace
}  // namespace dshc::peer

// The bytes of workspace that a call takes.
extern "C" int64_t warp_select_workspace(int64_t n_query, int64_t n_db, int32_t n_bytes, int32_t k) {
  const auto plan = dshc::peer::plan_of(n_query, n_db, n_bytes / 4);
  dshc::peer::Workspace workspace{nullptr};
  if (plan.n_lists > 1) workspace.lists(n_query, plan.n_lists, k);
  if (plan.merged_lists != 0) workspace.lists(n_query, plan.merged_lists, k);
  return workspace.used;
}

// The k nearest of each query, ascending. Never synchronises; 0 or the launch's cudaError_t. Sizes are the caller's to
// check: n_query >= 1, n_bytes 4, 8, 16 or 32, 1 <= k <= min(n_db, 32 * WARP_SELECT_ROWS).
extern "C" int warp_select_topk(const void* queries, const void* database, int64_t n_query, int64_t n_db,
                                int32_t n_bytes, int32_t k, void* workspace, int32_t* distances, int64_t* indices,
                                void* stream) {
  using namespace dshc::peer;
  const Plan plan = plan_of(n_query, n_db, n_bytes / 4);
  const Scan scan{static_cast<const uint32_t*>(queries), static_cast<const uint32_t*>(database), n_query, n_db,
                  plan.segment_items, plan.query_groups, plan.queries_a_block, k};
  return run<WARP_SELECT_ROWS>(scan, plan, n_bytes / 4, Workspace{static_cast<unsigned char*>(workspace)},
                               Lists{distances, indices, 1}, stream);
}
