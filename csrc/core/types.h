// Words shared by the declarations of all ops: what a pair of codes scores, which dtype a pointer has, how an op fails.
#pragma once
#include <cstdint>

namespace dshc {

// How a pair of codes is compared. Everything inside works on a *rank value* that ascends from best to worst:
// the XOR count for hamming, 8 * n_bytes - (AND count) for overlap.
enum class Score : int32_t { hamming = 0, overlap = 1 };

enum class DType : int32_t {
  float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3,
  int8 = 4, int16 = 5, int32 = 6, int64 = 7,
  uint8 = 8, uint16 = 9, uint32 = 10, uint64 = 11,  // uint8 also carries bool
};

// Value errors an op can find while it works; `row` is the first offending row.
enum class Fault : int32_t { none = 0, nan_value = 1, plus_infinity = 2, label_out_of_range = 3 };

struct Status {
  Fault fault = Fault::none;
  int64_t row = -1;
  int64_t value = 0;
};

// One row of each part of a partition, and which of them lie near each other.
struct PartCodes {
  const uint8_t* rows = nullptr;       // [n_parts] in order of the parts
  // The same rows once more, center after center: those from begins[c] to begins[c + 1], of which the center is one, differ
  // from it in up to `reach` bits.
  const uint8_t* near_rows = nullptr;  // [n_parts]
  const uint32_t* near_parts = nullptr;  // [n_parts] which part each is of
  const uint8_t* centers = nullptr;    // [n_centers]
  const uint32_t* begins = nullptr;    // [n_centers + 1]
  int64_t n_centers = 0;               // 0: they do not lie around few
  int32_t reach = 0;
};

// Rows 0 .. n-1 parted into sets of equal rows: sets in order of their first member, members in order of index.
struct Partition {
  const int64_t* members = nullptr;  // [n]
  const int64_t* offsets = nullptr;  // [n_parts + 1]
  int64_t n_parts = 0;               // 0: nobody has looked yet; kDistinct: rows do not repeat enough to be worth it
  const PartCodes* distinct = nullptr;  // null: nobody has gathered them

  static constexpr int64_t kDistinct = -1;
};

// Items of a database by the bits of a part of their code, for multi-index hashing (substring_tables.h says how they are used).
// Table t has bits [first_bit(t), first_bit(t + 1)) of the code, and lists the items of each value of them, ascending.
struct SubstringTables {
  const uint32_t* offsets = nullptr;  // table after table, [2^width(t) + 1] each
  const uint32_t* items = nullptr;    // [n_tables, n_codes]
  int32_t n_tables = 0;               // 0: there are none
  int32_t n_bits = 0;                 // of a code, parted among the tables
  int64_t n_codes = 0;                // items in a table: all, or of each set of equal codes the first

  int32_t first_bit(int32_t t) const { return static_cast<int32_t>(static_cast<int64_t>(n_bits) * t / n_tables); }
  int32_t width(int32_t t) const { return first_bit(t + 1) - first_bit(t); }
};

// Items of a database around centers. One that is e bits from its center, which is d bits from a query, is |d - e| bits from the
// query at least: so of each center a search compares the items of some distances alone, its rings.
struct CodeClusters {
  const uint8_t* rows = nullptr;      // [n_db] the codes, center after center, in a center ring after ring
  const uint32_t* items = nullptr;    // [n_db] which item each is, ascending in a ring
  const uint8_t* centers = nullptr;   // [n_centers]
  const uint32_t* begins = nullptr;   // [n_centers, n_rings + 1]: where each ring begins, then where the last one ends
  const uint16_t* radii = nullptr;    // [n_centers]: the last ring that has items
  int64_t n_centers = 0;              // 0: there are none
  int32_t n_rings = 0;                // 8 * bytes of a row + 1

  int64_t begin(int64_t center, int32_t ring) const { return begins[center * (n_rings + 1) + ring]; }
};

// Whether a search asks tables or clusters: where they seem to be faster, or, for tests, never or whatever it costs.
enum class TableUse : int32_t { automatic = 0, never = 1, always = 2 };

// Queries against a database, and which database items may be answered.
struct Pairs {
  const uint8_t* queries;   // [n_query, n_bytes]
  const uint8_t* database;  // [n_db, n_bytes]
  int64_t n_query;
  int64_t n_db;
  int32_t n_bytes;          // 1 to 512
  Score score;
  const uint8_t* allowed;   // [n_query or 1, allowed_stride] bits, little-endian; null: all are allowed
  int64_t allowed_stride;   // bytes from one query's row to the next; 0: one row for all queries
  Partition equal_codes = {};  // of the database; the CPU back end finds it itself where nobody has looked
  SubstringTables tables = {};  // of the database, whose codes are whole words then; for top-k and radius search on the CPU
  TableUse table_use = TableUse::automatic;
  const CodeClusters* clusters = nullptr;  // of the database, likewise
};

// Relevant means: equal class ids, or a shared label of two bit rows. All forms but one are null. The CPU back end reads
// int32 ids only; the CUDA back end reads int64 too, because to see whether they fit is to wait for the device.
struct Relevance {
  const int32_t* query_ids;      // [n_query]
  const int32_t* database_ids;   // [n_db]
  const uint64_t* query_words;     // [n_query, n_words]
  const uint64_t* database_words;  // [n_db, n_words]
  int32_t n_words;
  const int64_t* query_wide_ids = nullptr;     // [n_query]
  const int64_t* database_wide_ids = nullptr;  // [n_db]
  Partition equal_labels = {};  // of the database; the CPU back end finds it itself where nobody has looked
};

}  // namespace dshc
