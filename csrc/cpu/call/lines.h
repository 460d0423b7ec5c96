// Arrays that begin with a cache line: a vector that crosses from one line to the next is read at half the pace.
#pragma once
#include <cstddef>
#include <new>
#include <vector>

namespace dshc::cpu {

template <class T>
struct OnLines {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  OnLines() = default;
  template <class Other>
  OnLines(const OnLines<Other>&) {}

  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kLine)); }
  void deallocate(T* from, std::size_t) { ::operator delete(from, kLine); }
  template <class Other>
  bool operator==(const OnLines<Other>&) const {
    return true;
  }
  template <class Other>
  bool operator!=(const OnLines<Other>&) const {
    return false;
  }
};

template <class T>
using LineVector = std::vector<T, OnLines<T>>;

}  // namespace dshc::cpu
