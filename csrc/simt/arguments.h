// Arguments that several ops share, from a request.
#pragma once
#include "../core/types.h"
#include "request.h"

namespace dshc::simt {

inline Pairs pairs(Request& r) {
  return {r.array<const uint8_t>("queries"), r.array<const uint8_t>("database"), r.integer("n_query"), r.integer("n_db"),
          static_cast<int32_t>(r.integer("n_bytes")), static_cast<Score>(r.integer("score")),
          r.array<const uint8_t>("allowed"), r.integer("allowed_stride")};
}

inline Relevance relevance(Request& r) {
  return {r.array<const int32_t>("query_ids"),       r.array<const int32_t>("database_ids"),
          r.array<const uint64_t>("query_words"),    r.array<const uint64_t>("database_words"),
          static_cast<int32_t>(r.integer("n_words")), r.array<const int64_t>("query_wide_ids"),
          r.array<const int64_t>("database_wide_ids")};
}

}  // namespace dshc::simt
