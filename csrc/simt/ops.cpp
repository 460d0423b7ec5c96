// The ops of csrc/cuda by name: what bind/module.cpp does for tensors, for the arrays of a request. Workspaces are
// allocated at exactly the size an op asks for.
#include <cstring>

#include "../common/dtype.h"
#include "../core/asymmetric_topk.h"
#include "../core/average_precision.h"
#include "../core/center_codes_from_logits.h"
#include "../core/class_softmax_loss.h"
#include "../core/codes_from_logits.h"
#include "../core/hamming_distance.h"
#include "../core/hamming_histogram.h"
#include "../core/hamming_radius.h"
#include "../core/hamming_topk.h"
#include "../core/multilabel_codes.h"
#include "../core/pack_codes.h"
#include "../core/retrieval_metric.h"
#include "../core/unpack_codes.h"
#include "../cuda/collect.h"
#include "arguments.h"

namespace dshc::simt {
namespace {

// Where blocks do not run (only_ends) nobody writes their counts: there a workspace is zero, as if they had found nothing.
std::unique_ptr<Memory> workspace_of(Request& r, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  if (r.has("only_ends")) return std::make_unique<VirtualMemory>(size);
  return std::make_unique<Memory>(size);
}

DType dtype(Request& r) { return static_cast<DType>(r.integer("dtype")); }

ClassSoftmax class_softmax(Request& r) {
  return {r.array<const void>("logits"), dtype(r), r.array<const int64_t>("labels"), r.array<const int64_t>("class_offsets"),
          r.integer("n"), r.integer("n_subclasses"), r.integer("n_classes"), r.real("weight"), r.integer("ignore_index"),
          r.integer("first_column"), r.integer("n_columns")};
}

int pack_codes(Request& r) {
  return cuda::pack_codes(r.array<const void>("values"), dtype(r), r.integer("n"), r.integer("n_bits"),
                          r.array<uint8_t>("codes"), nullptr);
}

int unpack_codes(Request& r) {
  return cuda::unpack_codes(r.array<const uint8_t>("codes"), r.integer("n"), r.integer("n_bytes"), r.integer("n_bits"),
                            r.integer("signed") != 0, r.array<uint8_t>("values"), nullptr);
}

int hamming_distance(Request& r) { return cuda::hamming_distance(pairs(r), r.array<int32_t>("counts"), nullptr); }

int hamming_topk(Request& r) {
  const auto kernel = static_cast<cuda::TopkKernel>(r.integer("kernel"));
  const auto workspace = workspace_of(r, cuda::hamming_topk_workspace_bytes(pairs(r), r.integer("k"), kernel));
  return cuda::hamming_topk(pairs(r), r.integer("k"), kernel, r.array<int32_t>("counts"), r.array<int64_t>("indices"),
                            workspace->data(), nullptr);
}

// The one-pass kernels with their thresholds made small, so that small inputs meet chunks, groups and full buffers.
int collect_topk(Request& r) {
  cuda::CollectTuning tuning;
  tuning.capacity = r.integer("capacity");
  tuning.sample_items = r.integer("sample_items");
  tuning.chunk = r.integer("chunk");
  tuning.group = static_cast<int32_t>(r.integer("group"));
  tuning.count_every = static_cast<int32_t>(r.integer("count_every"));
  tuning.prefix_tiles = r.integer("prefix_tiles");
  tuning.first_item = r.integer("first_item");
  const auto kernel = static_cast<cuda::TopkKernel>(r.integer("kernel"));
  const auto workspace = workspace_of(r, cuda::collect_workspace_bytes(pairs(r), r.integer("k"), kernel, tuning));
  const int status = cuda::collect_topk(pairs(r), r.integer("k"), kernel, tuning, r.array<int32_t>("counts"),
                                        r.array<int64_t>("indices"), workspace->data(), nullptr);
  if (auto* found = r.array<uint64_t>("found")) {  // how many keys each query of the (only) chunk collected
    const auto collected = cuda::collected_in(pairs(r), r.integer("k"), kernel, tuning, workspace->data());
    for (int64_t q = 0; q < r.integer("n_query"); ++q) found[q] = collected.found[q];
  }
  return status;
}

int asymmetric_topk(Request& r) {
  const AsymmetricPairs asymmetric{r.array<const void>("outputs"),
                                   dtype(r),
                                   r.array<const uint8_t>("database"),
                                   r.integer("n_query"),
                                   r.integer("n_db"),
                                   r.integer("stride"),
                                   static_cast<int32_t>(r.integer("n_bits")),
                                   static_cast<int32_t>(r.integer("n_bytes")),
                                   r.array<const uint8_t>("allowed"),
                                   r.integer("allowed_stride"),
                                   {}};
  const auto workspace = workspace_of(r, cuda::asymmetric_topk_workspace_bytes(asymmetric, r.integer("k")));
  return cuda::asymmetric_topk(asymmetric, r.integer("k"), r.array<float>("distances"), r.array<int64_t>("indices"),
                               workspace->data(), nullptr);
}

int hamming_radius_count(Request& r) {
  return cuda::hamming_radius_count(pairs(r), r.integer("radius"), r.array<int64_t>("found"), nullptr);
}

int hamming_radius_fill(Request& r) {
  // What is said of the size chooses the way; one that is too large chooses the two passes.
  const int64_t n_found = r.has("n_found") ? r.integer("n_found") : r.array<const int64_t>("offsets")[r.integer("n_query")];
  const auto workspace = workspace_of(r, cuda::hamming_radius_workspace_bytes(pairs(r), n_found));
  return cuda::hamming_radius_fill(pairs(r), r.integer("radius"), n_found, r.array<const int64_t>("offsets"),
                                   r.array<int64_t>("indices"), r.array<int32_t>("counts"), workspace->data(), nullptr);
}

int hamming_histogram(Request& r) {
  return cuda::hamming_histogram(pairs(r), relevance(r), static_cast<int32_t>(r.integer("n_bits")),
                                 r.array<int64_t>("items"), r.array<int64_t>("relevant"), nullptr);
}

int average_precision(Request& r) {
  const auto ties = static_cast<Ties>(r.integer("ties"));
  const auto workspace = workspace_of(r, cuda::average_precision_workspace_bytes(pairs(r), ties));
  return cuda::average_precision(pairs(r), relevance(r), r.integer("k"), ties,
                                 static_cast<Denominator>(r.integer("denominator")), r.array<double>("result"),
                                 workspace->data(), nullptr);
}

int retrieval_metric(Request& r) {
  const MetricTask task{static_cast<Metric>(r.integer("metric")), r.integer("k"), static_cast<Ties>(r.integer("ties")),
                        static_cast<Gains>(r.integer("gains"))};
  const auto n_labels = static_cast<int32_t>(r.integer("n_labels"));
  const auto workspace = workspace_of(r, cuda::retrieval_metric_workspace_bytes(pairs(r), task, n_labels));
  return cuda::retrieval_metric(pairs(r), relevance(r), task, n_labels, r.array<double>("result"), workspace->data(), nullptr);
}

int class_softmax_loss(Request& r) {
  const ClassSoftmax task = class_softmax(r);
  auto* carry = r.array<double>("carry");
  if (const auto* before = r.array<const double>("carry_before")) {
    std::memcpy(carry, before, static_cast<size_t>(task.n) * 3 * sizeof(double));
  }
  return cuda::class_softmax_loss(task, carry, r.array<void>("loss"), r.array<void>("stats"), nullptr);
}

// Where the request says so, the gradient lies over the logits.
void* gradient_of(Request& r, ClassSoftmax& task) {
  auto* grad_logits = r.array<void>("grad_logits");
  if (r.integer("inplace") != 0 && task.n > 0) {
    std::memcpy(grad_logits, task.logits, static_cast<size_t>(task.n * task.n_columns * size_of(task.dtype)));
    task.logits = grad_logits;
  }
  return grad_logits;
}

int class_softmax_loss_backward(Request& r) {
  ClassSoftmax task = class_softmax(r);
  void* grad_logits = gradient_of(r, task);
  return cuda::class_softmax_loss_backward(task, r.array<const void>("stats"), r.array<const void>("grad_loss"), grad_logits,
                                           nullptr);
}

int class_softmax_loss_and_gradient(Request& r) {
  ClassSoftmax task = class_softmax(r);
  void* grad_logits = gradient_of(r, task);
  return cuda::class_softmax_loss_and_gradient(task, r.array<const int64_t>("n_kept"), r.array<void>("loss"),
                                               r.array<void>("stats"), grad_logits, nullptr);
}

int class_softmax_loss_rescale(Request& r) {
  const ClassSoftmax task = class_softmax(r);
  auto* grad_logits = r.array<void>("grad_logits");
  if (task.n > 0) {
    std::memcpy(grad_logits, r.array<const void>("before"),
                static_cast<size_t>(task.n * task.n_columns * size_of(task.dtype)));
  }
  return cuda::class_softmax_loss_rescale(task, r.array<const void>("stats"), r.array<const void>("grad_loss"),
                                          r.array<const int64_t>("n_kept"), grad_logits, nullptr);
}

int codes_from_logits(Request& r) {
  return cuda::codes_from_logits(r.array<const void>("logits"), dtype(r), r.integer("n"), r.integer("n_subclasses"),
                                 r.array<const uint8_t>("codebook"), r.integer("n_bytes"), r.integer("k"),
                                 static_cast<Weighting>(r.integer("weighting")), r.array<const int64_t>("subclasses"),
                                 r.array<uint8_t>("codes"), nullptr);
}

int top_subclasses(Request& r) {
  return cuda::top_subclasses(r.array<const void>("logits"), dtype(r), r.integer("n"), r.integer("n_subclasses"),
                              r.integer("k"), r.array<int64_t>("top"), nullptr);
}

int center_codes_from_logits(Request& r) {
  return cuda::center_codes_from_logits(r.array<const void>("logits"), dtype(r), r.integer("n"), r.integer("n_subclasses"),
                                        r.array<const int64_t>("class_offsets"), r.integer("n_classes"),
                                        r.array<const uint8_t>("centers"), r.integer("n_bytes"),
                                        r.array<uint8_t>("codes"), nullptr);
}

int multilabel_codes(Request& r) {
  return cuda::multilabel_codes(r.array<const void>("logits"), dtype(r), r.integer("n"), r.integer("n_bits"),
                                r.array<const double>("thresholds"), r.array<uint8_t>("codes"), nullptr);
}

}  // namespace

const std::map<std::string, Op>& kernel_ops() {
  static const std::map<std::string, Op> ops{
      {"pack_codes", pack_codes},
      {"unpack_codes", unpack_codes},
      {"hamming_distance", hamming_distance},
      {"hamming_topk", hamming_topk},
      {"collect_topk", collect_topk},
      {"asymmetric_topk", asymmetric_topk},
      {"hamming_radius_count", hamming_radius_count},
      {"hamming_radius_fill", hamming_radius_fill},
      {"hamming_histogram", hamming_histogram},
      {"average_precision", average_precision},
      {"retrieval_metric", retrieval_metric},
      {"class_softmax_loss", class_softmax_loss},
      {"class_softmax_loss_backward", class_softmax_loss_backward},
      {"class_softmax_loss_and_gradient", class_softmax_loss_and_gradient},
      {"class_softmax_loss_rescale", class_softmax_loss_rescale},
      {"codes_from_logits", codes_from_logits},
      {"top_subclasses", top_subclasses},
      {"center_codes_from_logits", center_codes_from_logits},
      {"multilabel_codes", multilabel_codes},
  };
  return ops;
}

}  // namespace dshc::simt
