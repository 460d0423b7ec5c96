// The limits of a processor, each loop as fast as could be found, over codes in the first-level cache. One signature:
//   queries  (n_query, words of a code), n_query a multiple of 4
//   codes    word-major, (words of a code, n), n a multiple of 128
//   bound    the filters count pairs of distance < bound (expected to be rare)
//   out      stored distances, (n)
// They return what was counted, so that limits.py can check them.
#pragma once
#include <cstdint>

#define DSHC_LIMIT(name)                                                                                              \
  extern "C" uint64_t name(int32_t bits, const void* queries, int64_t n_query, const void* codes, int64_t n,          \
                           uint64_t bound, uint8_t* out)

// Calls function<Lane, words>(...) for the code length; a lane is 32 bits for 32-bit codes, else 64.
#define DSHC_LIMIT_BY_LENGTH(function, ...)                                                                           \
  switch (bits) {                                                                                                     \
    case 32: return function<uint32_t, 1>(__VA_ARGS__);                                                               \
    case 64: return function<uint64_t, 1>(__VA_ARGS__);                                                               \
    case 128: return function<uint64_t, 2>(__VA_ARGS__);                                                              \
    case 256: return function<uint64_t, 4>(__VA_ARGS__);                                                              \
    default: return 0;                                                                                                \
  }
