// Module `_dshc_fast`: the C++ ops for Python; those on logits are in logits.cpp, CUDA's in cuda.cpp. Addresses come as integers
// and are trusted (dshc_fast/_ops.py is the only caller and validates); the GIL is released around every op (call.h); a value
// error it reports becomes a ValueError here.
//
// ABI must be raised with any change of a signature in these files, together with ABI in dshc_fast/_native.py.
#include <memory>
#include <string>

#include "../core/asymmetric_topk.h"
#include "../core/average_precision.h"
#include "../core/hamming_distance.h"
#include "../core/hamming_histogram.h"
#include "../core/hamming_pairs.h"
#include "../core/hamming_radius.h"
#include "../core/hamming_topk.h"
#include "../core/host_arrays.h"
#include "../core/pack_codes.h"
#include "../core/partition_rows.h"
#include "../core/retrieval_metric.h"
#include "../core/substring_tables.h"
#include "../core/unpack_codes.h"
#include "../cpu/kernels/level.h"
#include "../cpu/repeats/code_centers.h"
#include "../cpu/repeats/code_clusters.h"
#include "call.h"
#include "module.h"

namespace py = pybind11;
using namespace dshc;

namespace {

constexpr int kAbi = 14;

Pairs pairs(Address queries, Address database, int64_t n_query, int64_t n_db, int32_t n_bytes, int score,
            Address allowed, int64_t allowed_stride, Address members, Address offsets, int64_t n_parts,
            const cpu::OwnedPartCodes* distinct, const SubstringTables& tables, int table_use, const cpu::OwnedClusters* clusters) {
  need_memory(queries, n_query, "queries");
  need_memory(database, n_db, "database");
  return {at<const uint8_t>(queries), at<const uint8_t>(database),   n_query, n_db, n_bytes,
          static_cast<Score>(score),  at<const uint8_t>(allowed),    allowed_stride,
          {at<const int64_t>(members), at<const int64_t>(offsets), n_parts, distinct ? &distinct->view() : nullptr},
          tables, static_cast<TableUse>(table_use), clusters ? &clusters->view() : nullptr};
}

SubstringTables substring_tables(Address offsets, Address items, int32_t n_tables, int32_t n_bits, int64_t n_codes) {
  return {at<const uint32_t>(offsets), at<const uint32_t>(items), n_tables, n_bits, n_codes};
}

// n_words 0: the labels are class ids, int64 if wide_ids (CUDA), else int32.
Relevance relevance(Address query_labels, Address database_labels, int32_t n_words, bool wide_ids, Address members,
                    Address offsets, int64_t n_parts) {
  need_memory(database_labels, 1, "database_labels");  // a database has one item at the least
  Relevance labels{};
  labels.equal_labels = {at<const int64_t>(members), at<const int64_t>(offsets), n_parts};
  if (n_words > 0) {
    labels.query_words = at<const uint64_t>(query_labels);
    labels.database_words = at<const uint64_t>(database_labels);
    labels.n_words = n_words;
  } else if (wide_ids) {
    labels.query_wide_ids = at<const int64_t>(query_labels);
    labels.database_wide_ids = at<const int64_t>(database_labels);
  } else {
    labels.query_ids = at<const int32_t>(query_labels);
    labels.database_ids = at<const int32_t>(database_labels);
  }
  return labels;
}

AsymmetricPairs asymmetric_pairs(Address outputs, int dtype, Address database, int64_t n_query, int64_t n_db, int64_t stride,
                                 int32_t n_bits, int32_t n_bytes, Address allowed, int64_t allowed_stride, Address members,
                                 Address offsets, int64_t n_parts) {
  need_memory(outputs, n_query, "outputs");
  need_memory(database, n_db, "database");
  return {at<const void>(outputs), static_cast<DType>(dtype), at<const uint8_t>(database), n_query, n_db, stride, n_bits,
          n_bytes,                 at<const uint8_t>(allowed), allowed_stride,
          {at<const int64_t>(members), at<const int64_t>(offsets), n_parts}};
}

}  // namespace

namespace dshc {

void need_query_labels(const Pairs& pairs, const Relevance& relevance) {
  const bool none = !relevance.query_ids && !relevance.query_wide_ids && !relevance.query_words;
  need_memory(none ? 0 : 1, pairs.n_query, "query_labels");
}

}  // namespace dshc

PYBIND11_MODULE(_dshc_fast, m) {
  m.doc() = "Native ops of dshc_fast; use them through the package dshc_fast.";
  MainThread::remember();
  m.attr("ABI") = kAbi;
  m.attr("VERSION") = DSHC_VERSION;
  m.attr("COMPILER") = DSHC_COMPILER;
#ifdef DSHC_WITH_CUDA
  m.attr("CUDA") = true;
#else
  m.attr("CUDA") = false;
#endif

  m.def("set_simd_level", [](const py::object& name) {
    return cpu::set_simd_level(name.is_none() ? nullptr : name.cast<std::string>().c_str());
  }, py::arg("name"));
  m.def("simd_level", [] { return cpu::chosen_level().name; });
  m.def("simd_levels", [] {
    py::list names;
    for (const char* const* name = cpu::simd_levels(); *name; ++name) names.append(*name);
    return names;
  });

  m.def("pack_codes", [](Address values, int dtype, int64_t n, int64_t n_bits, Address codes, bool check, int n_threads) {
    need_memory(values, n, "values");
    Status status;
    run_op([&] {
      status = cpu::pack_codes(at<void>(values), static_cast<DType>(dtype), n, n_bits, at<uint8_t>(codes), check, n_threads);
    });
    raise(status, "values");
  }, py::arg("values"), py::arg("dtype"), py::arg("n"), py::arg("n_bits"), py::arg("codes"), py::arg("check"),
     py::arg("n_threads"));

  m.def("unpack_codes", [](Address codes, int64_t n, int64_t n_bytes, int64_t n_bits, bool is_signed, Address values,
                           int n_threads) {
    need_memory(codes, n, "codes");
    run_op([&] {
      cpu::unpack_codes(at<uint8_t>(codes), n, n_bytes, n_bits, is_signed, at<uint8_t>(values), n_threads);
    });
  }, py::arg("codes"), py::arg("n"), py::arg("n_bytes"), py::arg("n_bits"), py::arg("is_signed"), py::arg("values"),
     py::arg("n_threads"));

  m.def("partition_rows", [](Address rows, int64_t n, int64_t row_bytes, int64_t max_parts, Address members,
                             Address offsets, int n_threads) {
    need_memory(rows, n, "rows");
    int64_t n_parts = 0;
    run_op([&] {
      n_parts = cpu::partition_rows(at<uint8_t>(rows), n, row_bytes, max_parts, at<int64_t>(members), at<int64_t>(offsets),
                                    n_threads);
    });
    return n_parts;
  }, py::arg("rows"), py::arg("n"), py::arg("row_bytes"), py::arg("max_parts"), py::arg("members"), py::arg("offsets"),
     py::arg("n_threads"));

  m.def("narrow_ids", [](Address ids, int dtype, int64_t n, Address narrow, int n_threads) {
    need_memory(ids, n, "labels");
    bool all_fit = false;
    run_op([&] { all_fit = cpu::narrow_ids(at<void>(ids), static_cast<DType>(dtype), n, at<int32_t>(narrow), n_threads); });
    return all_fit;
  }, py::arg("ids"), py::arg("dtype"), py::arg("n"), py::arg("narrow"), py::arg("n_threads"));

  m.def("multi_hot_words", [](Address labels, int dtype, int64_t n, int64_t n_labels, Address words, int n_threads) {
    need_memory(labels, n, "labels");
    int64_t wrong_row = -1;
    run_op([&] {
      wrong_row = cpu::multi_hot_words(at<void>(labels), static_cast<DType>(dtype), n, n_labels, at<uint64_t>(words),
                                       n_threads);
    });
    return wrong_row;
  }, py::arg("labels"), py::arg("dtype"), py::arg("n"), py::arg("n_labels"), py::arg("words"), py::arg("n_threads"));

  m.def("widen_rows", [](Address rows, int64_t n, int64_t n_bytes, int64_t row_stride, Address wider, int64_t n_wider,
                         int n_threads) {
    need_memory(rows, n, "codes");
    run_op([&] {
      cpu::widen_rows(at<uint8_t>(rows), n, n_bytes, row_stride, at<uint8_t>(wider), n_wider, n_threads);
    });
  }, py::arg("rows"), py::arg("n"), py::arg("n_bytes"), py::arg("row_stride"), py::arg("wider"), py::arg("n_wider"),
     py::arg("n_threads"));

  m.def("largest_byte", [](Address bytes, int64_t n, int64_t stride, int n_threads) {
    need_memory(bytes, n, "codes");
    int largest = 0;
    run_op([&] { largest = cpu::largest_byte(at<uint8_t>(bytes), n, stride, n_threads); });
    return largest;
  }, py::arg("bytes"), py::arg("n"), py::arg("stride"), py::arg("n_threads"));

  m.def("substring_table_count", [](int32_t n_bits, int64_t n_codes) {
    return cpu::substring_table_count(n_bits, n_codes);
  }, py::arg("n_bits"), py::arg("n_codes"));

  py::class_<SubstringTables>(m, "SubstringTables").def(
      py::init(&substring_tables), py::arg("offsets"), py::arg("items"), py::arg("n_tables"), py::arg("n_bits"),
      py::arg("n_codes"));

  m.def("build_substring_tables", [](Address rows, int32_t row_bytes, Address members, Address offsets, int64_t n_parts,
                                     const SubstringTables& tables, int n_threads) {
    need_memory(rows, 1, "codes");
    run_op([&] {
      cpu::build_substring_tables(at<uint8_t>(rows), row_bytes, {at<int64_t>(members), at<int64_t>(offsets), n_parts}, tables,
                                  const_cast<uint32_t*>(tables.offsets), const_cast<uint32_t*>(tables.items), n_threads);
    });
  }, py::arg("rows"), py::arg("row_bytes"), py::arg("members"), py::arg("offsets"), py::arg("n_parts"), py::arg("tables"),
     py::arg("n_threads"));

  m.def("check_substring_tables", [](Address rows, int32_t row_bytes, int64_t n_db, Address members, Address offsets,
                                     int64_t n_parts, const SubstringTables& tables, int n_threads) {
    need_memory(rows, 1, "codes");
    cpu::TableFault fault{};
    run_op([&] {
      fault = cpu::check_substring_tables(at<uint8_t>(rows), row_bytes, n_db,
                                          {at<int64_t>(members), at<int64_t>(offsets), n_parts}, tables, n_threads);
    });
    return static_cast<int>(fault);
  }, py::arg("rows"), py::arg("row_bytes"), py::arg("n_db"), py::arg("members"), py::arg("offsets"), py::arg("n_parts"),
     py::arg("tables"), py::arg("n_threads"));

  py::class_<cpu::OwnedPartCodes>(m, "DistinctCodes")
      .def(py::init([](Address rows, int32_t row_bytes, Address members, Address offsets, int64_t n_parts) {
        need_memory(rows, 1, "codes");
        std::unique_ptr<cpu::OwnedPartCodes> made;
        run_op([&] {
          made = std::make_unique<cpu::OwnedPartCodes>(
              at<uint8_t>(rows), row_bytes, Partition{at<int64_t>(members), at<int64_t>(offsets), n_parts});
        });
        return made;
      }), py::arg("rows"), py::arg("row_bytes"), py::arg("members"), py::arg("offsets"), py::arg("n_parts"))
      .def_property_readonly("nbytes", &cpu::OwnedPartCodes::n_bytes)
      .def_property_readonly("n_centers", [](const cpu::OwnedPartCodes& codes) { return codes.view().n_centers; });

  py::class_<cpu::OwnedClusters>(m, "CodeClusters")
      .def(py::init([](Address rows, int32_t row_bytes, int64_t n, bool always, int n_threads) {
        need_memory(rows, 1, "codes");
        std::unique_ptr<cpu::OwnedClusters> made;
        run_op([&] { made = std::make_unique<cpu::OwnedClusters>(at<uint8_t>(rows), row_bytes, n, always, n_threads); });
        return made;
      }), py::arg("rows"), py::arg("row_bytes"), py::arg("n"), py::arg("always"), py::arg("n_threads"))
      .def_property_readonly("nbytes", &cpu::OwnedClusters::n_bytes)
      .def_property_readonly("n_centers", [](const cpu::OwnedClusters& clusters) { return clusters.view().n_centers; });

  py::class_<Pairs>(m, "Pairs").def(
      py::init(&pairs), py::arg("queries"), py::arg("database"), py::arg("n_query"), py::arg("n_db"), py::arg("n_bytes"),
      py::arg("score"), py::arg("allowed"), py::arg("allowed_stride"), py::arg("members"), py::arg("offsets"),
      py::arg("n_parts"), py::arg("distinct"), py::arg("tables"), py::arg("table_use"), py::arg("clusters"));
  py::class_<AsymmetricPairs>(m, "AsymmetricPairs").def(
      py::init(&asymmetric_pairs), py::arg("outputs"), py::arg("dtype"), py::arg("database"), py::arg("n_query"),
      py::arg("n_db"), py::arg("stride"), py::arg("n_bits"), py::arg("n_bytes"), py::arg("allowed"),
      py::arg("allowed_stride"), py::arg("members"), py::arg("offsets"), py::arg("n_parts"));
  py::class_<Relevance>(m, "Relevance").def(
      py::init(&relevance), py::arg("query_labels"), py::arg("database_labels"), py::arg("n_words"), py::arg("wide_ids"),
      py::arg("members"), py::arg("offsets"), py::arg("n_parts"));
  m.def("hamming_distance", [](const Pairs& pairs, Address counts, int n_threads) {
    run_op([&] { cpu::hamming_distance(pairs, at<int32_t>(counts), n_threads); });
  }, py::arg("pairs"), py::arg("counts"), py::arg("n_threads"));

  m.def("hamming_topk", [](const Pairs& pairs, int64_t k, Address counts, Address indices, int n_threads) {
    run_op([&] { cpu::hamming_topk(pairs, k, at<int32_t>(counts), at<int64_t>(indices), n_threads); });
  }, py::arg("pairs"), py::arg("k"), py::arg("counts"), py::arg("indices"), py::arg("n_threads"));

  m.def("asymmetric_topk", [](const AsymmetricPairs& pairs, int64_t k, Address distances, Address indices, bool check,
                              int n_threads) {
    Status status;
    run_op([&] {
      status = cpu::asymmetric_topk(pairs, k, at<float>(distances), at<int64_t>(indices), check, n_threads);
    });
    raise(status, "outputs");
  }, py::arg("pairs"), py::arg("k"), py::arg("distances"), py::arg("indices"), py::arg("check"), py::arg("n_threads"));

  py::class_<cpu::RadiusSearch>(m, "RadiusSearch")
      .def(py::init([](const Pairs& pairs, int64_t radius, int n_threads) {
        std::unique_ptr<cpu::RadiusSearch> search;
        run_op([&] { search = std::make_unique<cpu::RadiusSearch>(pairs, radius, n_threads); });
        return search;
      }), py::arg("pairs"), py::arg("radius"), py::arg("n_threads"))
      .def("n_found", &cpu::RadiusSearch::n_found)
      .def("write", [](cpu::RadiusSearch& search, Address offsets, Address indices, Address counts, int n_threads) {
        run_op([&] { search.write(at<int64_t>(offsets), at<int64_t>(indices), at<int32_t>(counts), n_threads); });
      }, py::arg("offsets"), py::arg("indices"), py::arg("counts"), py::arg("n_threads"));

  py::class_<cpu::PairSearch>(m, "PairSearch")
      .def(py::init([](Address rows, int64_t n, int32_t n_bytes, int32_t stride, Address members, Address part_offsets,
                       int64_t n_parts, int64_t radius, Address offsets, int n_threads) {
        need_memory(rows, n, "codes");
        const CodeRows codes{at<const uint8_t>(rows), n, n_bytes, stride,
                             {at<const int64_t>(members), at<const int64_t>(part_offsets), n_parts}};
        std::unique_ptr<cpu::PairSearch> search;
        run_op([&] { search = std::make_unique<cpu::PairSearch>(codes, radius, at<int64_t>(offsets), n_threads); });
        return search;
      }), py::arg("rows"), py::arg("n"), py::arg("n_bytes"), py::arg("stride"), py::arg("members"), py::arg("part_offsets"),
          py::arg("n_parts"), py::arg("radius"), py::arg("offsets"), py::arg("n_threads"))
      .def("n_found", &cpu::PairSearch::n_found)
      .def("write", [](cpu::PairSearch& search, Address indices, Address distances, int n_threads) {
        run_op([&] { search.write(at<int64_t>(indices), at<int32_t>(distances), n_threads); });
      }, py::arg("indices"), py::arg("distances"), py::arg("n_threads"));

  m.def("hamming_histogram", [](const Pairs& pairs, const Relevance& relevance, int32_t n_bits, Address items,
                                Address relevant, int n_threads) {
    need_query_labels(pairs, relevance);
    run_op([&] {
      cpu::hamming_histogram(pairs, relevance, n_bits, at<int64_t>(items), at<int64_t>(relevant), n_threads);
    });
  }, py::arg("pairs"), py::arg("relevance"), py::arg("n_bits"), py::arg("items"), py::arg("relevant"),
     py::arg("n_threads"));

  m.def("average_precision", [](const Pairs& pairs, const Relevance& relevance, int64_t k, int ties, int denominator,
                                Address result, int n_threads) {
    need_query_labels(pairs, relevance);
    run_op([&] {
      cpu::average_precision(pairs, relevance, k, static_cast<Ties>(ties), static_cast<Denominator>(denominator),
                             at<double>(result), n_threads);
    });
  }, py::arg("pairs"), py::arg("relevance"), py::arg("k"), py::arg("ties"), py::arg("denominator"), py::arg("result"),
     py::arg("n_threads"));

  m.def("retrieval_metric", [](const Pairs& pairs, const Relevance& relevance, int metric, int64_t k, int ties, int gains,
                               Address result, int n_threads) {
    need_query_labels(pairs, relevance);
    run_op([&] {
      cpu::retrieval_metric(pairs, relevance, metric_task(metric, k, ties, gains), at<double>(result), n_threads);
    });
  }, py::arg("pairs"), py::arg("relevance"), py::arg("metric"), py::arg("k"), py::arg("ties"), py::arg("gains"),
     py::arg("result"), py::arg("n_threads"));

  bind_logits(m);
#ifdef DSHC_WITH_CUDA
  bind_cuda(m);
#endif
}
