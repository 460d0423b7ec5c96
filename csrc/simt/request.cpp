#include "request.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <sys/mman.h>
#include <unistd.h>

#include "scheduler.h"

namespace dshc::simt {

Memory::Memory(size_t bytes) : data_(static_cast<char*>(std::malloc(bytes))) {
  if (data_ == nullptr) fail("no memory for %zu bytes", bytes);
  std::memset(data_, pattern(), bytes);
}

Memory::~Memory() { std::free(data_); }

VirtualMemory::VirtualMemory(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), in_pages = (bytes + page - 1) / page * page;
  mapped_ = in_pages + page;
  mapping_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED || mprotect(mapping_, in_pages, PROT_READ | PROT_WRITE) != 0) {
    fail("no address space for %zu bytes", bytes);
  }
  data_ = static_cast<char*>(mapping_) + (in_pages - bytes);
}

VirtualMemory::~VirtualMemory() {
  munmap(mapping_, mapped_);
  data_ = nullptr;
}

bool Request::read() {
  scalars_.clear();
  arrays_.clear();
  inputs_.clear();
  outputs_.clear();
  char* text = nullptr;
  size_t capacity = 0;
  const ssize_t length = getline(&text, &capacity, stdin);
  std::istringstream line(length > 0 ? std::string(text, static_cast<size_t>(length)) : std::string());
  std::free(text);
  if (length <= 0) return false;
  line >> op_;
  for (std::string word; line >> word;) read_word(word);
  for (const Part& part : inputs_) {
    if (std::fread(array<char>(part.name) + part.at, 1, part.bytes, stdin) != part.bytes) return false;
  }
  return true;
}

// Scalars come before arrays in a request, because memory is filled as the order says.
void Request::read_word(const std::string& word) {
  if (const size_t equals = word.find('='); equals != std::string::npos) {
    scalars_[word.substr(0, equals)] = word.substr(equals + 1);
    return;
  }
  char name[64] = "", kind[8] = "";
  size_t at = 0, bytes = 0;
  if (std::sscanf(word.c_str(), "%63[^:]:%7[a-z]:%zu:%zu", name, kind, &at, &bytes) != 4) {
    fail("a request holds '%s'", word.c_str());
  }
  const std::string what = kind;
  if (arrays_.empty()) {
    const std::string order = scalar("order");
    set_order(order == "ascending"    ? Order::ascending
              : order == "descending" ? Order::descending
                                      : Order::random,
              static_cast<uint64_t>(integer("seed")));
    set_only_ends(scalars_.count("only_ends") != 0 ? integer("only_ends") : 0);
    set_multiprocessors(scalars_.count("multiprocessors") != 0 ? static_cast<int>(integer("multiprocessors")) : 2);
  }
  if (what == "virtual") {
    arrays_[name] = {0, std::make_unique<VirtualMemory>(bytes)};
  } else if (what == "put" || what == "get") {
    (what == "put" ? inputs_ : outputs_).push_back({name, at, bytes});
  } else {
    arrays_[name] = {at, std::make_unique<Memory>(at + bytes)};
    (what == "in" ? inputs_ : outputs_).push_back({name, 0, bytes});
  }
}

void Request::answer(int status) {
  size_t bytes = 0;
  for (const Part& part : outputs_) bytes += part.bytes;
  std::printf("%d %zu\n", status, bytes);
  for (const Part& part : outputs_) std::fwrite(array<char>(part.name) + part.at, 1, part.bytes, stdout);
  std::fflush(stdout);
}

const std::string& Request::scalar(const std::string& name) const {
  const auto found = scalars_.find(name);
  if (found == scalars_.end()) fail("the request for %s has no scalar '%s'", op_.c_str(), name.c_str());
  return found->second;
}

int64_t Request::integer(const std::string& name) const { return std::strtoll(scalar(name).c_str(), nullptr, 10); }

double Request::real(const std::string& name) const { return std::strtod(scalar(name).c_str(), nullptr); }

void* Request::address(const std::string& name) {
  const auto found = arrays_.find(name);
  return found == arrays_.end() ? nullptr : found->second.memory->data() + found->second.offset;
}

}  // namespace dshc::simt
