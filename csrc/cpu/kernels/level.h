// What differs between instruction sets, as data: a level is tables of functions, and of the ways to filter, chosen once at
// run time. All levels give the same integers; the float loops of the soft-max agree to rounding.
#pragma once
#include <cstdint>

#include "../../core/types.h"
#include "filter.h"
#include "plane_counts.h"
#include "plane_filter.h"

namespace dshc::cpu {

// A way to filter codes of one width. Of a level's rows the first that fits a walk and a bound is taken, so that another
// width or another way is a row more. Where a walk begins with planes no other row arranges: they leave the end of a block to the
// next row, and an arrangement is of a whole block.
struct FilterRow {
  const char* name;
  int32_t width;        // of a code in bytes, filled up to whole words (WordShape); 0: any
  uint32_t scores;      // a bit each
  int32_t max_bound;    // candidates are told below bounds up to this one
  int32_t min_queries;  // of a walk, from which this way pays
  int32_t max_queries;  // up to which it pays
  BlockLength block;
  // Nibbles of the whole tiles of a block in word columns; null: the columns are filtered as they are.
  void (*arrange)(const FilterPass& block, uint8_t* nibbles);
  void (*filter)(FilterPass& pass);
  const PlaneFilterKernels* planes;  // in the place of `filter`: queries stay with it from one block to the next
  bool reads_codes = false;          // as they lie in the database, not as word columns
  int32_t n_bytes = 0;               // of such codes; 0: of whole words; kRagged: of 9 and more that
                                     // end inside a word
};

constexpr int32_t kRagged = -1;
constexpr int32_t kNoMaxBound = INT32_MAX, kAnyQueries = INT32_MAX;
constexpr uint32_t score_bit(Score score) { return 1u << static_cast<int>(score); }
constexpr uint32_t kBothScores = score_bit(Score::hamming) | score_bit(Score::overlap);

constexpr int kRun = 32;  // values

// Numbers of two of a few codes, and in how many bits they differ.
struct ClosePair {
  uint16_t first, second, count;
};
constexpr int kFewCodes = 32;

struct RankKernels {
  // row[i] = rank value of `query` against code i: XOR count, or 8 * n_bytes_counted - AND count. `stride` is the bytes
  // of a code as it lies here: 4, or a multiple of 8.
  void (*rank_row)(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride,
                   uint16_t overlap_top, uint16_t* row);
  // The same as 32-bit XOR or AND counts.
  void (*count_row)(Score score, const uint8_t* query, const uint8_t* codes, int64_t n, int32_t stride, int32_t* counts);
  // row[i] += offset where item i is relevant.
  void (*add_relevance_ids)(uint16_t* row, const int32_t* ids, int32_t query_id, int64_t n, uint16_t offset);
  void (*add_relevance_words)(uint16_t* row, const uint64_t* words, const uint64_t* query_words, int32_t n_words,
                              int64_t n, uint16_t offset);
  // Positions i with low <= row[i] < high, ascending; returns how many. `positions` has room for n.
  int64_t (*select_between)(const uint16_t* row, int64_t n, uint16_t low, uint16_t high, uint32_t* positions);
  // For each position p: how many values of row[p / kRun * kRun .. p) equal row[p] - shift. The row is readable to the end
  // of the run of its last position.
  void (*equal_before)(const uint16_t* row, const uint32_t* positions, int64_t n_positions, uint16_t shift,
                       uint16_t* before);
  // Pairs of up to kFewCodes codes of whole words [n, stride] whose XOR count is below `limit`; returns how many. There is
  // room for all pairs of n.
  int64_t (*pairs_below)(const uint8_t* codes, int64_t n, int32_t stride, uint16_t limit, ClosePair* pairs);
};

constexpr int kBuckets = 64;

struct FloatKernels {
  float (*max_value)(const float* values, int64_t n);  // NaNs are passed over; -inf for n = 0
  bool (*any_nan)(const float* values, int64_t n);
  // *bound: k or more values are at least as large, hardly more; -inf where fewer are not NaN, and for k > kBuckets. True if
  // a value is NaN.
  bool (*bound_of_top)(const float* values, int64_t n, int64_t k, float* bound);
  // Positions i with values[i] >= bound, ascending; returns how many. `positions` has room for n < 2^32.
  int64_t (*select_at_least)(const float* values, int64_t n, float bound, uint32_t* positions);
  float (*sum_exp)(const float* values, int64_t n, float shift);  // sum of exp(value - shift)
  // out[i] = scale * exp(values[i] - shift); `out` may be `values`.
  void (*scaled_exp)(const float* values, int64_t n, float shift, float scale, float* out);
  // scaled_exp in two steps: out[i] = exp(values[i] - shift), whose sum it returns as sum_exp does, then
  // out[i] = values[i] * factor; `out` of the second may be `values`.
  float (*keep_exp)(const float* values, int64_t n, float shift, float* out);
  void (*multiply)(const float* values, int64_t n, float factor, float* out);
  void (*from_float16)(const uint16_t* values, int64_t n, float* out);
  void (*from_bfloat16)(const uint16_t* values, int64_t n, float* out);
  // To the nearest, ties to even; past the largest half an infinity; NaN is a quiet NaN.
  void (*to_float16)(const float* values, int64_t n, uint16_t* out);
  void (*to_bfloat16)(const float* values, int64_t n, uint16_t* out);
  // As above, of doubles.
  double (*max_value_64)(const double* values, int64_t n);
  double (*sum_exp_64)(const double* values, int64_t n, double shift);
  void (*scaled_exp_64)(const double* values, int64_t n, double shift, double scale, double* out);
  double (*keep_exp_64)(const double* values, int64_t n, double shift, double* out);
  void (*multiply_64)(const double* values, int64_t n, double factor, double* out);
};

struct CodeKernels {
  // Codes of whole words, [n, n_words], as word columns.
  void (*to_columns)(const uint8_t* codes, int64_t n, int32_t n_words, uint64_t* columns, int64_t column_items);
  // Keys of the listed items whose XOR count is below `bound`, in the order of the list; returns how many. `stride` as in
  // rank_row; `found` has room for n keys; `items` is readable, and names items, to n + kListedAhead.
  int64_t (*near_codes)(const uint8_t* query, const uint8_t* codes, int32_t stride, const uint32_t* items, int64_t n,
                        int32_t bound, Key* found);
};

struct BitKernels {
  // Bit j of the code is values[j] > thresholds[j], or > 0 where thresholds is null; padding bits are 0. True if a value is a
  // NaN.
  bool (*pack_above)(const float* values, const float* thresholds, int64_t n_bits, uint8_t* code);
  // bytes[i] = values[i] > 0, of any dtype, by DType; true if a value is a NaN.
  bool (*const* positive_bytes)(const void* values, int64_t n, uint8_t* bytes);
  // Bit j of the code is bytes[j] != 0; padding bits are 0.
  void (*pack_bytes)(const uint8_t* bytes, int64_t n_bits, uint8_t* code);
  // values[j] = one where bit j is set, else zero.
  void (*unpack_bits)(const uint8_t* code, int64_t n_bits, uint8_t zero, uint8_t one, uint8_t* values);
  // sums[j] = the weights of codes with bit j set less those of the others, added up one after the other, so that all levels
  // round alike. Code i is row rows[i] of the codebook, or row i where rows is null. sums: [8 * n_bytes].
  void (*signed_sums)(const uint8_t* codebook, int64_t n_bytes, const int64_t* rows, const float* weights, int64_t n_rows,
                      float* sums);
  // The same for several rows of weights at once, added to what is there and rounded alike: sums [n_rows, n_bits] +=
  // weights [n_rows, n_codes], rows `stride` apart, times signs [n_codes, n_bits] of +-1 (signs_of). n_bits: a multiple of 8.
  void (*add_signed)(const float* signs, int64_t n_codes, int64_t n_bits, const float* weights, int64_t stride, int64_t n_rows,
                     float* sums);
  void (*signs_of)(const uint8_t* codes, int64_t n_bytes, float* signs);
};

// Codes in tiles of kWeightedTile items: for each nibble of the code, low nibble of a byte first, a byte for each item.
constexpr int kWeightedTile = 64;

struct AsymmetricKernels {
  // Codes `stride` bytes apart as tiles; items that the last tile lacks have code 0.
  void (*arrange)(const uint8_t* codes, int64_t n, int32_t n_bytes, int64_t stride, uint8_t* tiles);
  // sums[i]: over bytes, one after the other, of what the tables [2 * n_bytes, 16] have for the low nibble plus what they have
  // for the high one. Equal on all levels, to the bit.
  void (*distances)(const float* tables, const uint8_t* tiles, int64_t n_tiles, int32_t n_bytes, float* sums);
  // Positions, ascending, of items whose sum over nibbles of `tables` [2 * n_bytes, 16] is at most `limit`; eight bytes of a
  // code count up to 255, more counts as 255. For codes of at most eight bytes limit < 255. Null: no quicker than `distances`.
  int64_t (*select)(const uint8_t* tables, const uint8_t* tiles, int64_t n_tiles, int32_t n_bytes, uint32_t limit,
                    uint32_t* positions);
};

struct Level {
  const char* name;
  const FilterRow* filters;  // best first; the last takes any width, score and bound, and any number of queries
  const RankKernels* rank;
  const PlaneKernels* planes;
  const FloatKernels* floats;
  const CodeKernels* codes;
  const BitKernels* bits;
  const AsymmetricKernels* asymmetric;
};

// The level of the call that this thread works for (call/call.h): one and the same from its beginning to its end. Only
// inside of calls.
const Level& level();

// The level that the next call will have.
const Level& chosen_level();

// Chooses a level by name ("avx512", "avx2", "neon", "generic"); null: the best this machine runs. False: it has no such
// level.
bool set_simd_level(const char* name);

// Names of the levels this machine can run, best first; null-terminated.
const char* const* simd_levels();

}  // namespace dshc::cpu
