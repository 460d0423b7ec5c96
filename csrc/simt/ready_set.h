// Which of n numbers are ready, and the next one at or after a number, round and round.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dshc::simt {

class ReadySet {
 public:
  void reset(int n, bool ready) {
    n_ready_ = ready ? n : 0;
    words_.assign(static_cast<size_t>(n + 63) / 64, ready ? ~uint64_t{0} : 0);
    if (ready && n % 64 != 0) words_.back() = (uint64_t{1} << n % 64) - 1;
  }
  bool empty() const { return n_ready_ == 0; }
  void insert(int i) {
    n_ready_ += !(words_[static_cast<size_t>(i) / 64] >> i % 64 & 1);
    words_[static_cast<size_t>(i) / 64] |= uint64_t{1} << i % 64;
  }
  void erase(int i) {
    n_ready_ -= words_[static_cast<size_t>(i) / 64] >> i % 64 & 1;
    words_[static_cast<size_t>(i) / 64] &= ~(uint64_t{1} << i % 64);
  }
  // Must not be empty.
  int next(int from) const {
    size_t word = static_cast<size_t>(from) / 64;
    uint64_t bits = words_[word] & (~uint64_t{0} << from % 64);
    while (bits == 0) {
      word = word + 1 == words_.size() ? 0 : word + 1;
      bits = words_[word];
    }
    return static_cast<int>(word) * 64 + __builtin_ctzll(bits);
  }

 private:
  int n_ready_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace dshc::simt
