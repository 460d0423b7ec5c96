// The second part of the module: ops on logits. As module.cpp.
#include "../core/center_codes_from_logits.h"
#include "../core/class_softmax_loss.h"
#include "../core/codes_from_logits.h"
#include "../core/multilabel_codes.h"
#include "call.h"
#include "module.h"

namespace py = pybind11;

namespace dshc {
namespace {

ClassSoftmax class_softmax(Address logits, int dtype, Address labels, Address class_offsets, int64_t n,
                           int64_t n_subclasses, int64_t n_classes, double weight, int64_t ignore_index,
                           int64_t first_column, int64_t n_columns) {
  need_memory(logits, n, "logits");
  need_memory(labels, n, "labels");
  need_memory(class_offsets, 1, "class_offsets");
  return {at<const void>(logits), static_cast<DType>(dtype), at<const int64_t>(labels), at<const int64_t>(class_offsets),
          n, n_subclasses, n_classes, weight, ignore_index, first_column, n_columns};
}

}  // namespace

void bind_logits(py::module_& m) {
  py::class_<ClassSoftmax>(m, "ClassSoftmax").def(
      py::init(&class_softmax), py::arg("logits"), py::arg("dtype"), py::arg("labels"), py::arg("class_offsets"),
      py::arg("n"), py::arg("n_subclasses"), py::arg("n_classes"), py::arg("weight"), py::arg("ignore_index"),
      py::arg("first_column"), py::arg("n_columns"))
      .def_readonly("n", &ClassSoftmax::n)
      .def_property_readonly("dtype", [](const ClassSoftmax& task) { return static_cast<int>(task.dtype); });

  m.def("class_softmax_loss", [](const ClassSoftmax& task, Address carry, Address loss, Address stats, bool check,
                                 int n_threads) {
    Status status;
    run_op([&] {
      status = cpu::class_softmax_loss(task, at<double>(carry), at<void>(loss), at<void>(stats), check, n_threads);
    });
    raise(status, "labels", task.n_classes);
  }, py::arg("task"), py::arg("carry"), py::arg("loss"), py::arg("stats"), py::arg("check"), py::arg("n_threads"));

  m.def("class_softmax_loss_backward", [](const ClassSoftmax& task, Address stats, Address grad_loss,
                                          Address grad_logits, int n_threads) {
    need_memory(stats, task.n, "stats");
    need_memory(grad_loss, task.n, "grad_loss");
    run_op([&] {
      cpu::class_softmax_loss_backward(task, at<void>(stats), at<void>(grad_loss), at<void>(grad_logits), n_threads);
    });
  }, py::arg("task"), py::arg("stats"), py::arg("grad_loss"), py::arg("grad_logits"), py::arg("n_threads"));

  m.def("class_softmax_loss_and_gradient", [](const ClassSoftmax& task, bool mean, Address reduced, Address stats,
                                              Address grad_logits, bool check, int n_threads) {
    need_memory(reduced, 1, "reduced");
    need_memory(stats, task.n, "stats");
    Status status;
    run_op([&] {
      status = cpu::class_softmax_loss_and_gradient(task, mean, at<void>(reduced), at<void>(stats), at<void>(grad_logits),
                                                    check, n_threads);
    });
    raise(status, "labels", task.n_classes);
  }, py::arg("task"), py::arg("mean"), py::arg("reduced"), py::arg("stats"), py::arg("grad_logits"), py::arg("check"),
     py::arg("n_threads"));

  m.def("codes_from_logits", [](Address logits, int dtype, int64_t n, int64_t n_subclasses, Address codebook,
                                int64_t n_bytes, int64_t k, int weighting, Address subclasses, Address codes,
                                int64_t first_row, bool check, int n_threads) {
    need_memory(logits, n, "logits");
    need_memory(codebook, 1, "codebook");
    Status status;
    run_op([&] {
      status = cpu::codes_from_logits(at<void>(logits), static_cast<DType>(dtype), n, n_subclasses, at<uint8_t>(codebook),
                                      n_bytes, k, static_cast<Weighting>(weighting), at<const int64_t>(subclasses),
                                      at<uint8_t>(codes), check, n_threads);
    });
    status.row += first_row;
    raise(status, "logits");
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_subclasses"), py::arg("codebook"), py::arg("n_bytes"),
     py::arg("k"), py::arg("weighting"), py::arg("subclasses"), py::arg("codes"), py::arg("first_row"), py::arg("check"),
     py::arg("n_threads"));

  m.def("top_subclasses", [](Address logits, int dtype, int64_t n, int64_t n_subclasses, int64_t k, Address top,
                             int64_t first_row, bool check, int n_threads) {
    need_memory(logits, n, "logits");
    Status status;
    run_op([&] {
      status = cpu::top_subclasses(at<void>(logits), static_cast<DType>(dtype), n, n_subclasses, k, at<int64_t>(top),
                                   check, n_threads);
    });
    status.row += first_row;
    raise(status, "logits");
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_subclasses"), py::arg("k"), py::arg("top"),
     py::arg("first_row"), py::arg("check"), py::arg("n_threads"));

  m.def("center_codes_from_logits", [](Address logits, int dtype, int64_t n, int64_t n_subclasses, Address class_offsets,
                                       int64_t n_classes, Address centers, int64_t n_bytes, Address codes, bool check,
                                       int n_threads) {
    need_memory(logits, n, "logits");
    need_memory(class_offsets, 1, "class_offsets");
    need_memory(centers, 1, "centers");
    Status status;
    run_op([&] {
      status = cpu::center_codes_from_logits(at<void>(logits), static_cast<DType>(dtype), n, n_subclasses,
                                             at<int64_t>(class_offsets), n_classes, at<uint8_t>(centers), n_bytes,
                                             at<uint8_t>(codes), check, n_threads);
    });
    raise(status, "logits");
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_subclasses"), py::arg("class_offsets"),
     py::arg("n_classes"), py::arg("centers"), py::arg("n_bytes"), py::arg("codes"), py::arg("check"), py::arg("n_threads"));

  m.def("multilabel_codes", [](Address logits, int dtype, int64_t n, int64_t n_bits, Address thresholds, Address codes,
                               bool check, int n_threads) {
    need_memory(logits, n, "logits");
    need_memory(thresholds, 1, "threshold");
    Status status;
    run_op([&] {
      status = cpu::multilabel_codes(at<void>(logits), static_cast<DType>(dtype), n, n_bits, at<double>(thresholds),
                                     at<uint8_t>(codes), check, n_threads);
    });
    raise(status, "logits");
  }, py::arg("logits"), py::arg("dtype"), py::arg("n"), py::arg("n_bits"), py::arg("thresholds"), py::arg("codes"),
     py::arg("check"), py::arg("n_threads"));
}

}  // namespace dshc
