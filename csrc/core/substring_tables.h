// Substring tables: multi-index hashing (Norouzi, Punjani, Fleet: Fast search in Hamming space with multi-index hashing, CVPR
// 2012; TPAMI 2014). A code is parted into substrings with a table each. Two codes that differ in at most r bits differ in at
// most floor(r / n_tables) bits of one substring at least, so that looking up the near values of each substring finds all
// items within r; each is then compared as a whole. hamming_topk and hamming_radius do so where it is faster than a scan.
#pragma once
#include "types.h"

namespace dshc::cpu {

constexpr int32_t kMostTableBits = 26;  // of a substring: 2^26 offsets are 256 MiB

// How many tables there should be: of about log2(n_codes) bits, so that a value has about one item.
int32_t substring_table_count(int32_t n_bits, int64_t n_codes);

// Fills tables.offsets and tables.items, whose sizes `tables` says. rows [n_db, row_bytes]: codes of whole words (row_bytes 4
// or a multiple of 8). `equal`: with parts, tables.n_codes is their number; without, it is n_db. n_db <= 2^32.
// Needs 8 * n_codes bytes of memory beside.
void build_substring_tables(const uint8_t* rows, int32_t row_bytes, const Partition& equal, const SubstringTables& tables,
                            uint32_t* offsets, uint32_t* items, int n_threads);

// What is wrong with tables that come from elsewhere, as a search relies on all of it.
enum class TableFault : int32_t { none = 0, offsets = 1, items = 2 };
TableFault check_substring_tables(const uint8_t* rows, int32_t row_bytes, int64_t n_db, const Partition& equal,
                                  const SubstringTables& tables, int n_threads);

}  // namespace dshc::cpu
