// What the files of the module share: addresses as Python integers, faults as errors, and its other parts.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "../core/retrieval_metric.h"
#include "../core/types.h"

namespace dshc {

using Address = uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// A tensor whose storage was freed (`untyped_storage().resize_(0)`) keeps its shape and has the address 0, as an empty
// tensor may. `n`: rows to be read there.
inline void need_memory(Address address, int64_t n, const char* name) {
  if (address != 0 || n <= 0) return;
  throw pybind11::value_error(std::string(name) + " must hold values, got a tensor whose storage was freed");
}

// Likewise of labels, whose number is that of the queries.
void need_query_labels(const Pairs& pairs, const Relevance& relevance);

// What a CPU op reports of values, as Python's error.
inline void raise(const Status& status, const char* argument, int64_t n_classes = 0) {
  if (status.fault == Fault::none) return;
  const std::string where = std::string(argument) + "[" + std::to_string(status.row) + "]";
  switch (status.fault) {
    case Fault::nan_value: throw pybind11::value_error(where + " must hold numbers and infinities, got NaN");
    case Fault::plus_infinity:
      throw pybind11::value_error(where + " must hold numbers and -inf with weighting=\"probability\", got +inf");
    case Fault::label_out_of_range:
      throw pybind11::value_error(where + " must be a class id from 0 to " + std::to_string(n_classes - 1) +
                                  ", or ignore_index, got " + std::to_string(status.value));
    case Fault::none: break;
  }
}

inline MetricTask metric_task(int metric, int64_t k, int ties, int gains) {
  return {static_cast<Metric>(metric), k, static_cast<Ties>(ties), static_cast<Gains>(gains)};
}

void bind_logits(pybind11::module_& module);
void bind_cuda(pybind11::module_& module);

}  // namespace dshc
