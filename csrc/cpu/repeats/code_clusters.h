// The items of a database put to centers that they lie around, for search by the triangle inequality (CodeClusters in
// core/types.h): learned codes of a class lie near each other, and far from those of other classes.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "../../core/types.h"

namespace dshc::cpu {

class OwnedClusters {
 public:
  // Of rows of whole words. A sample shows how near the items lie to some centers, and how much of the database a search would
  // still compare; where that is not a small part there are none (found() is false), and little time was lost.
  // `always`, for tests: there are some of any codes.
  OwnedClusters(const uint8_t* rows, int32_t row_bytes, int64_t n, bool always, int n_threads);
  OwnedClusters(const OwnedClusters&) = delete;
  OwnedClusters& operator=(const OwnedClusters&) = delete;

  const CodeClusters& view() const { return view_; }
  bool found() const { return view_.n_centers > 0; }
  int64_t n_bytes() const;

 private:
  void put(const uint8_t* rows, int32_t row_bytes, int64_t n, int n_threads);

  int64_t n_rows_ = 0;
  std::unique_ptr<uint8_t[]> rows_;
  std::unique_ptr<uint32_t[]> items_;
  std::vector<uint8_t> centers_;
  std::vector<uint32_t> begins_;
  std::vector<uint16_t> radii_;
  CodeClusters view_;
};

}  // namespace dshc::cpu
