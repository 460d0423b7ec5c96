// What module.cpp and cuda.cpp share: addresses as Python integers, and the second half of the module.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>

namespace dshc {

using Address = uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void bind_cuda(pybind11::module_& module);

}  // namespace dshc
