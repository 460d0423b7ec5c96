// One request to dshc_simt: an op's name, its scalars and its arrays by name.
//
// On the wire a line of text, then the bytes of all inputs, one after the other:
//     hamming_distance order=ascending seed=0 n_db=5 queries:in:0:24 counts:out:0:40
// An array is `name:in|out:offset:bytes`; it lies `offset` bytes into an allocation that ends where it ends, so that a read
// past it is seen by AddressSanitizer, and a vector load that expects more alignment than it has by UBSan.
// `name:virtual:0:bytes` has more bytes than there is memory: zero pages, of which `name:put:at:bytes` writes and
// `name:get:at:bytes` answers a part. With `only_ends=n` a launch runs its first and its last n blocks only; `multiprocessors=n` makes
// kernels cut their work into more blocks, so that these ends are short.
// The answer is a line `status bytes` and the bytes of all outputs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace dshc::simt {

// Heap memory of exactly this size, filled with a pattern: nothing may depend on what it held.
class Memory {
 public:
  explicit Memory(size_t bytes);
  virtual ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* data() { return data_; }

 protected:
  Memory() = default;
  char* data_ = nullptr;
};

// Zero pages that cost nothing until they are touched; the last byte lies at the end of a page that none follows.
class VirtualMemory : public Memory {
 public:
  explicit VirtualMemory(size_t bytes);
  ~VirtualMemory() override;

 private:
  void* mapping_;
  size_t mapped_;
};

class Request {
 public:
  // False at the end of the input.
  bool read();
  void answer(int status);

  const std::string& op() const { return op_; }
  bool has(const std::string& scalar) const { return scalars_.count(scalar) != 0; }
  int64_t integer(const std::string& name) const;
  double real(const std::string& name) const;
  // Null where the request has no such array.
  template <class T>
  T* array(const std::string& name) {
    return static_cast<T*>(address(name));
  }

 private:
  struct Array {
    size_t offset;
    std::unique_ptr<Memory> memory;
  };
  struct Part {
    std::string name;
    size_t at, bytes;
  };

  const std::string& scalar(const std::string& name) const;
  void* address(const std::string& name);
  void read_word(const std::string& word);

  std::string op_;
  std::map<std::string, std::string> scalars_;
  std::map<std::string, Array> arrays_;
  std::vector<Part> inputs_, outputs_;  // in the order of the request
};

// Runs the op; returns its status.
using Op = int (*)(Request& request);
const std::map<std::string, Op>& kernel_ops();  // csrc/cuda
const std::map<std::string, Op>& fault_ops();   // planted faults
const std::map<std::string, Op>& probe_ops();   // questions to the interpreter itself

}  // namespace dshc::simt
