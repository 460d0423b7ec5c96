// Runs every op of csrc/core on every instruction set of this machine and with one and three threads, against loops
// written to be obvious. Needs neither torch nor Python, so that it runs under sanitizers and on emulated processors.
#include "check.h"

int main() {
  std::printf("levels:");
  for (const char* const* level = dshc::cpu::simd_levels(); *level; ++level) std::printf(" %s", *level);
  std::printf("\n");
  dshc::test::test_kernels();
  dshc::test::test_ranking();
  dshc::test::test_asymmetric();
  dshc::test::test_average_precision();
  dshc::test::test_retrieval_metric();
  dshc::test::test_pairs();
  dshc::test::test_partition();
  dshc::test::test_packing();
  dshc::test::test_logits();
  dshc::test::test_loss();
  dshc::test::test_host_arrays();
  dshc::test::test_plans();
  dshc::test::test_substring_tables();
  dshc::test::test_code_clusters();
  dshc::test::test_stop();
  std::printf("all agree\n");
  return 0;
}
