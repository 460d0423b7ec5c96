// Items with equal codes are compared once: pairs of distinct codes, and from them the pairs of items.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../core/hamming_pairs.h"
#include "../repeats/partition.h"
#include "pair_rows.h"

namespace dshc::cpu {

class DistinctCodes {
 public:
  // Takes the parts that the call brings, or finds them where a sample shows equal codes.
  DistinctCodes(const CodeRows& items, int n_threads);

  // Finds them whatever a sample shows. Once is enough.
  void look(int n_threads);
  bool looked() const { return looked_; }
  int64_t n_items() const { return items_.n; }

  // What is to be compared: distinct codes if there are few enough (found()), else the items as they came.
  const CodeRows& codes() const { return codes_; }
  bool found() const { return parts_.n_parts > 0; }

  // Of items in the place of pairs of codes: where the row of each begins. `rows` are used up.
  void spread(PairRows& rows, const PairRoom& room, int64_t* offsets, int n_threads);
  // Their rows, behind these offsets.
  void write(const int64_t* offsets, int64_t* indices, int32_t* distances, int n_threads) const;

 private:
  // A stretch of keys at one distance.
  struct Run {
    const Key *begin, *end;
  };
  struct Scratch {
    std::vector<Key> items;
    std::vector<Run> runs;
  };

  void take(Partition parts);
  // Calls use(item, runs) for the items of a code, with the later items that each goes with.
  template <class Use>
  void for_each_row(int64_t code, Scratch& scratch, Use use) const;
  template <class Use>
  void for_each_row(int n_threads, Use use) const;

  CodeRows items_, codes_;
  Partition parts_;
  OwnedPartition owned_;
  std::vector<uint8_t> rows_;      // [distinct codes, stride]
  std::vector<int64_t> begins_;    // [distinct codes + 1] into neighbours_
  std::vector<Key> neighbours_;    // of each code, itself at distance 0 among them, ascending
  bool looked_ = false;
};

}  // namespace dshc::cpu
