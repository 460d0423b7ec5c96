// Interleaves threads and blocks at plain stores: `++counter` where an atomic is needed loses a count only if somebody comes
// between its load and its store. For this the kernels are compiled with -fsanitize=thread, which puts a call before each
// load and store; the functions called are these, not those of ThreadSanitizer, whose run-time library is not linked.
#include <cstddef>

#include "scheduler.h"

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

void __tsan_read1(void*) {}
void __tsan_read2(void*) {}
void __tsan_read4(void*) {}
void __tsan_read8(void*) {}
void __tsan_read16(void*) {}
void __tsan_unaligned_read2(void*) {}
void __tsan_unaligned_read4(void*) {}
void __tsan_unaligned_read8(void*) {}
void __tsan_unaligned_read16(void*) {}
void __tsan_read_range(void*, size_t) {}
void __tsan_vptr_update(void**, void*) {}

void __tsan_write1(void*) { dshc::simt::before_store(); }
void __tsan_write2(void*) { dshc::simt::before_store(); }
void __tsan_write4(void*) { dshc::simt::before_store(); }
void __tsan_write8(void*) { dshc::simt::before_store(); }
void __tsan_write16(void*) { dshc::simt::before_store(); }
void __tsan_unaligned_write2(void*) { dshc::simt::before_store(); }
void __tsan_unaligned_write4(void*) { dshc::simt::before_store(); }
void __tsan_unaligned_write8(void*) { dshc::simt::before_store(); }
void __tsan_unaligned_write16(void*) { dshc::simt::before_store(); }
void __tsan_write_range(void*, size_t) { dshc::simt::before_store(); }

}  // extern "C"
