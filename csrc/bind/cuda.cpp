// `_dshc_fast.cuda`: the CUDA ops for Python, compiled only where nvcc was found. Addresses are device addresses and
// trusted (dshc_fast/_cuda_ops.py is the only caller and validates). Every op ends in (device, stream): the device is made
// the thread's own for the call and no longer. Which one torch has set may be seen here or not; what torch finds
// afterwards must be what it left.
#include "module.h"

#include <stdexcept>
#include <string>

#include "../core/asymmetric_topk.h"
#include "../core/average_precision.h"
#include "../core/center_codes_from_logits.h"
#include "../core/class_softmax_loss.h"
#include "../core/codes_from_logits.h"
#include "../core/device.h"
#include "../core/hamming_distance.h"
#include "../core/hamming_histogram.h"
#include "../core/hamming_radius.h"
#include "../core/hamming_topk.h"
#include "../core/multilabel_codes.h"
#include "../core/pack_codes.h"
#include "../core/retrieval_metric.h"
#include "../core/unpack_codes.h"
#include "call.h"

namespace py = pybind11;

namespace dshc {
namespace {

void raise(const char* op, int status) {
  if (status == 0) return;
  throw std::runtime_error(std::string(op) + ": CUDA reports \"" + cuda::error_text(status) +
                           "\" (kernels built for architectures " DSHC_CUDA_ARCHITECTURES
                           ", see DSHC_CUDA_ARCHITECTURES)");
}

// Runs `work` on the device with the GIL released; a status other than 0 becomes a RuntimeError.
template <class Work>
void on_device(const char* op, int device, Work work) {
  int status = 0;
  {
    const ReleasedGil released;
    const cuda::DeviceGuard guard(device);
    status = guard.status == 0 ? work() : guard.status;
  }
  raise(op, status);
}

// Workspaces are cut by the device's number of multiprocessors.
template <class Work>
int64_t bytes_on_device(const char* op, int device, Work work) {
  const cuda::DeviceGuard guard(device);
  raise(op, guard.status);
  return work();
}

}  // namespace

void bind_cuda(py::module_& module) {
  module.attr("CUDA_RUNTIME") = cuda::runtime_version();
  module.attr("CUDA_ARCHITECTURES") = DSHC_CUDA_ARCHITECTURES;
  py::module_ m = module.def_submodule("cuda", "CUDA ops; use them through the package dshc_fast.");

  m.def("driver_version", &cuda::driver_version);

  m.def("capture_id", [](int device, Address stream) {
    const cuda::DeviceGuard guard(device);
    raise("capture_id", guard.status);
    return cuda::capture_id(at<void>(stream));
  }, py::arg("device"), py::arg("stream"));

  m.def("pack_codes", [](Address values, int dtype, int64_t n, int64_t n_bits, Address codes, int device, Address stream) {
    need_memory(values, n, "values");
    on_device("pack_codes", device, [&] {
      return cuda::pack_codes(at<void>(values), static_cast<DType>(dtype), n, n_bits, at<uint8_t>(codes), at<void>(stream));
    });
  }, py::arg("values"), py::arg("dtype"), py::arg("n"), py::arg("n_bits"), py::arg("codes"), py::arg("device"),
     py::arg("stream"));

  m.def("unpack_codes", [](Address codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, Address values,
                           int device, Address stream) {
    need_memory(codes, n, "codes");
    on_device("unpack_codes", device, [&] {
      return cuda::unpack_codes(at<uint8_t>(codes), n, n_bytes, n_bits, is_signed, at<uint8_t>(values), at<void>(stream));
    });
  }, py::arg("codes"), py::arg("n"), py::arg("n_bytes"), py::arg("n_bits"), py::arg("is_signed"), py::arg("values"),
     py::arg("device"), py::arg("stream"));

  m.def("hamming_distance", [](const Pairs& pairs, Address counts, int device, Address stream) {
    on_device("hamming_distance", device, [&] { return cuda::hamming_distance(pairs, at<int32_t>(counts), at<void>(stream)); });
  }, py::arg("pairs"), py::arg("counts"), py::arg("device"), py::arg("stream"));

  m.def("hamming_topk_workspace_bytes", [](const Pairs& pairs, int64_t k, int kernel, int device) {
    return bytes_on_device("hamming_topk", device, [&] {
      return cuda::hamming_topk_workspace_bytes(pairs, k, static_cast<cuda::TopkKernel>(kernel));
    });
  }, py::arg("pairs"), py::arg("k"), py::arg("kernel"), py::arg("device"));

  m.def("hamming_topk", [](const Pairs& pairs, int64_t k, int kernel, Address counts, Address indices, Address workspace,
                           int device, Address stream) {
    on_device("hamming_topk", device, [&] {
      return cuda::hamming_topk(pairs, k, static_cast<cuda::TopkKernel>(kernel), at<int32_t>(counts), at<int64_t>(indices),
                                at<void>(workspace), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("k"), py::arg("kernel"), py::arg("counts"), py::arg("indices"), py::arg("workspace"),
     py::arg("device"), py::arg("stream"));

  m.def("asymmetric_topk_workspace_bytes", [](const AsymmetricPairs& pairs, int64_t k, int device) {
    return bytes_on_device("asymmetric_topk", device, [&] { return cuda::asymmetric_topk_workspace_bytes(pairs, k); });
  }, py::arg("pairs"), py::arg("k"), py::arg("device"));

  m.def("asymmetric_topk", [](const AsymmetricPairs& pairs, int64_t k, Address distances, Address indices, Address workspace,
                              int device, Address stream) {
    on_device("asymmetric_topk", device, [&] {
      return cuda::asymmetric_topk(pairs, k, at<float>(distances), at<int64_t>(indices), at<void>(workspace), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("k"), py::arg("distances"), py::arg("indices"), py::arg("workspace"), py::arg("device"),
     py::arg("stream"));

  m.def("hamming_radius_count", [](const Pairs& pairs, int64_t radius, Address found, int device, Address stream) {
    on_device("hamming_radius", device, [&] {
      return cuda::hamming_radius_count(pairs, radius, at<int64_t>(found), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("radius"), py::arg("found"), py::arg("device"), py::arg("stream"));

  m.def("hamming_radius_workspace_bytes", [](const Pairs& pairs, int64_t n_found, int device) {
    return bytes_on_device("hamming_radius", device, [&] { return cuda::hamming_radius_workspace_bytes(pairs, n_found); });
  }, py::arg("pairs"), py::arg("n_found"), py::arg("device"));

  m.def("hamming_radius_fill", [](const Pairs& pairs, int64_t radius, int64_t n_found, Address offsets, Address indices,
                                  Address counts, Address workspace, int device, Address stream) {
    on_device("hamming_radius", device, [&] {
      return cuda::hamming_radius_fill(pairs, radius, n_found, at<int64_t>(offsets), at<int64_t>(indices),
                                       at<int32_t>(counts), at<void>(workspace), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("radius"), py::arg("n_found"), py::arg("offsets"), py::arg("indices"), py::arg("counts"), py::arg("workspace"),
     py::arg("device"), py::arg("stream"));

  m.def("hamming_histogram", [](const Pairs& pairs, const Relevance& relevance, int32_t n_bits, Address items,
                                Address relevant, int device, Address stream) {
    need_query_labels(pairs, relevance);
    on_device("hamming_histogram", device, [&] {
      return cuda::hamming_histogram(pairs, relevance, n_bits, at<int64_t>(items), at<int64_t>(relevant), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("relevance"), py::arg("n_bits"), py::arg("items"), py::arg("relevant"), py::arg("device"),
     py::arg("stream"));

  m.def("average_precision_workspace_bytes", [](const Pairs& pairs, int ties, int device) {
    return bytes_on_device("average_precision", device, [&] {
      return cuda::average_precision_workspace_bytes(pairs, static_cast<Ties>(ties));
    });
  }, py::arg("pairs"), py::arg("ties"), py::arg("device"));

  m.def("average_precision", [](const Pairs& pairs, const Relevance& relevance, int64_t k, int ties, int denominator,
                                Address result, Address workspace, int device, Address stream) {
    need_query_labels(pairs, relevance);
    on_device("average_precision", device, [&] {
      return cuda::average_precision(pairs, relevance, k, static_cast<Ties>(ties), static_cast<Denominator>(denominator),
                                     at<double>(result), at<void>(workspace), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("relevance"), py::arg("k"), py::arg("ties"), py::arg("denominator"), py::arg("result"),
     py::arg("workspace"), py::arg("device"), py::arg("stream"));

  m.def("retrieval_metric_workspace_bytes", [](const Pairs& pairs, int metric, int64_t k, int ties, int gains, int32_t n_labels,
                                               int device) {
    return bytes_on_device("retrieval_metric", device, [&] {
      return cuda::retrieval_metric_workspace_bytes(pairs, metric_task(metric, k, ties, gains), n_labels);
    });
  }, py::arg("pairs"), py::arg("metric"), py::arg("k"), py::arg("ties"), py::arg("gains"), py::arg("n_labels"),
     py::arg("device"));

  m.def("retrieval_metric", [](const Pairs& pairs, const Relevance& relevance, int metric, int64_t k, int ties, int gains,
                               int32_t n_labels, Address result, Address workspace, int device, Address stream) {
    need_query_labels(pairs, relevance);
    on_device("retrieval_metric", device, [&] {
      return cuda::retrieval_metric(pairs, relevance, metric_task(metric, k, ties, gains), n_labels, at<double>(result),
                                    at<void>(workspace), at<void>(stream));
    });
  }, py::arg("pairs"), py::arg("relevance"), py::arg("metric"), py::arg("k"), py::arg("ties"), py::arg("gains"),
     py::arg("n_labels"), py::arg("result"), py::arg("workspace"), py::arg("device"), py::arg("stream"));

  m.def("class_softmax_loss", [](const ClassSoftmax& task, Address carry, Address loss, Address stats, int device,
                                 Address stream) {
    on_device("class_softmax_loss", device, [&] {
      return cuda::class_softmax_loss(task, at<double>(carry), at<void>(loss), at<void>(stats), at<void>(stream));
    });
  }, py::arg("task"), py::arg("carry"), py::arg("loss"), py::arg("stats"), py::arg("device"), py::arg("stream"));

  m.def("class_softmax_loss_backward", [](const ClassSoftmax& task, Address stats, Address grad_loss, Address grad_logits,
                                          int device, Address stream) {
    need_memory(stats, task.n, "stats");
    need_memory(grad_loss, task.n, "grad_loss");
    on_device("class_softmax_loss_backward", device, [&] {
      return cuda::class_softmax_loss_backward(task, at<void>(stats), at<void>(grad_loss), at<void>(grad_logits),
                                               at<void>(stream));
    });
  }, py::arg("task"), py::arg("stats"), py::arg("grad_loss"), py::arg("grad_logits"), py::arg("device"), py::arg("stream"));

  m.def("class_softmax_loss_and_gradient", [](const ClassSoftmax& task, Address n_kept, Address loss, Address stats,
                                              Address grad_logits, int device, Address stream) {
    on_device("class_softmax_loss_and_gradient", device, [&] {
      return cuda::class_softmax_loss_and_gradient(task, at<const int64_t>(n_kept), at<void>(loss), at<void>(stats),
                                                   at<void>(grad_logits), at<void>(stream));
    });
  }, py::arg("task"), py::arg("n_kept"), py::arg("loss"), py::arg("stats"), py::arg("grad_logits"), py::arg("device"),
     py::arg("stream"));

  m.def("class_softmax_loss_rescale", [](const ClassSoftmax& task, Address stats, Address grad_loss, Address n_kept,
                                         Address grad_logits, int device, Address stream) {
    need_memory(stats, task.n, "stats");
    need_memory(grad_loss, 1, "grad_loss");
    on_device("class_softmax_loss_rescale", device, [&] {
      return cuda::class_softmax_loss_rescale(task, at<void>(stats), at<void>(grad_loss), at<const int64_t>(n_kept),
                                              at<void>(grad_logits), at<void>(stream));
    });
  }, py::arg("task"), py::arg("stats"), py::arg("grad_loss"), py::arg("n_kept"), py::arg("grad_logits"), py::arg("device"),
     py::arg("stream"));

  m.def("codes_from_logits", [](Address logits, int dtype, int64_t n, int64_t n_subclasses, Address codebook,
                                int64_t n_bytes, int64_t k, int weighting, Address subclasses, Address codes, int device,
                                Address stream) {
    need_memory(logits, n, "logits");
    need_memory(codebook, 1, "codebook");
    on_device("codes_from_logits", device, [&] {
      return cuda::codes_from_logits(at<void>(logits), static_cast<DType>(dtype), n, n_subclasses, at<uint8_t>(codebook),
                                     n_bytes, k, static_cast<Weighting>(weighting), at<const int64_t>(subclasses),
                                     at<uint8_t>(codes), at<void>(stream));
    });
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_subclasses"), py::arg("codebook"), py::arg("n_bytes"),
     py::arg("k"), py::arg("weighting"), py::arg("subclasses"), py::arg("codes"), py::arg("device"), py::arg("stream"));

  m.def("top_subclasses", [](Address logits, int dtype, int64_t n, int64_t n_subclasses, int64_t k, Address top, int device,
                             Address stream) {
    need_memory(logits, n, "logits");
    on_device("top_subclasses", device, [&] {
      return cuda::top_subclasses(at<void>(logits), static_cast<DType>(dtype), n, n_subclasses, k, at<int64_t>(top),
                                  at<void>(stream));
    });
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_subclasses"), py::arg("k"), py::arg("top"),
     py::arg("device"), py::arg("stream"));

  m.def("center_codes_from_logits", [](Address logits, int dtype, int64_t n, int64_t n_subclasses, Address class_offsets,
                                       int64_t n_classes, Address centers, int64_t n_bytes, Address codes, int device,
                                       Address stream) {
    need_memory(logits, n, "logits");
    need_memory(class_offsets, 1, "class_offsets");
    need_memory(centers, 1, "centers");
    on_device("center_codes_from_logits", device, [&] {
      return cuda::center_codes_from_logits(at<void>(logits), static_cast<DType>(dtype), n, n_subclasses,
                                            at<int64_t>(class_offsets), n_classes, at<uint8_t>(centers), n_bytes,
                                            at<uint8_t>(codes), at<void>(stream));
    });
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_subclasses"), py::arg("class_offsets"),
     py::arg("n_classes"), py::arg("centers"), py::arg("n_bytes"), py::arg("codes"), py::arg("device"), py::arg("stream"));

  m.def("multilabel_codes", [](Address logits, int dtype, int64_t n, int64_t n_bits, Address thresholds, Address codes,
                               int device, Address stream) {
    need_memory(logits, n, "logits");
    need_memory(thresholds, 1, "threshold");
    on_device("multilabel_codes", device, [&] {
      return cuda::multilabel_codes(at<void>(logits), static_cast<DType>(dtype), n, n_bits, at<double>(thresholds),
                                    at<uint8_t>(codes), at<void>(stream));
    });
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_bits"), py::arg("thresholds"), py::arg("codes"),
     py::arg("device"), py::arg("stream"));
}

}  // namespace dshc
