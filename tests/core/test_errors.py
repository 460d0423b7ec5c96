"""Every wrong input of every op: wrong types are TypeErrors, all else ValueErrors; both name the argument."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from ops_table import LABELLED, OPS, RANKING, good_calls, tensors

import dshc_fast

U8 = np.uint8
NAN_VALUES = np.array([[1.0, math.nan]], np.float32)
BAD_LOGITS = np.array([[0.0] * 8 + [math.nan]], np.float32)
HOT_Q, HOT_D = np.eye(3, 5, dtype=bool), np.ones((20, 5), bool)

Case = tuple[str, dict[str, Any], type[Exception], str]
CASES: list[Case] = [
    ("pack_codes", {"values": np.zeros(8, np.float32)}, ValueError, "values"),
    ("pack_codes", {"values": np.zeros((2, 2, 8), np.float32)}, ValueError, "values"),
    ("pack_codes", {"values": np.zeros((2, 0), np.float32)}, ValueError, "values"),
    ("pack_codes", {"values": np.zeros((1, 4097), np.float32)}, ValueError, "values"),
    ("pack_codes", {"values": np.zeros((2, 8), np.complex64)}, TypeError, "values"),
    ("pack_codes", {"values": [[1.0, -1.0]]}, TypeError, "values"),
    ("pack_codes", {"values": None}, TypeError, "values"),
    ("pack_codes", {"values": NAN_VALUES}, ValueError, "values"),
    ("unpack_codes", {"codes": np.zeros((2, 3), np.int64)}, TypeError, "codes"),
    ("unpack_codes", {"codes": np.zeros(3, U8)}, ValueError, "codes"),
    ("unpack_codes", {"codes": np.zeros((2, 0), U8)}, ValueError, "codes"),
    ("unpack_codes", {"codes": np.zeros((2, 513), U8), "n_bits": 4104}, ValueError, "codes"),
    ("unpack_codes", {"n_bits": 0}, ValueError, "n_bits"),
    ("unpack_codes", {"n_bits": -1}, ValueError, "n_bits"),
    ("unpack_codes", {"n_bits": 25}, ValueError, "n_bits"),
    ("unpack_codes", {"n_bits": 20.5}, TypeError, "n_bits"),
    ("unpack_codes", {"n_bits": "24"}, TypeError, "n_bits"),
    ("reverse_bit_order", {"codes": np.zeros((2, 3), np.int8)}, TypeError, "codes"),
    ("reverse_bit_order", {"codes": np.zeros(3, U8)}, ValueError, "codes"),
    ("reverse_bit_order", {"codes": np.zeros((2, 0), U8)}, ValueError, "codes"),
    ("hamming_topk", {"k": 0}, ValueError, "k"),
    ("hamming_topk", {"k": 21}, ValueError, "k"),
    ("hamming_topk", {"k": -1}, ValueError, "k"),
    ("hamming_topk", {"k": 2**40}, ValueError, "k"),
    ("hamming_topk", {"k": 2.5}, TypeError, "k"),
    ("hamming_topk", {"k": None}, TypeError, "k"),
    ("asymmetric_topk", {"k": 0}, ValueError, "k"),
    ("asymmetric_topk", {"k": 21}, ValueError, "k"),
    ("asymmetric_topk", {"k": 2.5}, TypeError, "k"),
    ("asymmetric_topk", {"outputs": np.zeros((3, 24), U8)}, TypeError, "outputs"),
    ("asymmetric_topk", {"outputs": np.zeros((3, 24), np.int64)}, TypeError, "outputs"),
    ("asymmetric_topk", {"outputs": np.zeros(24, np.float32)}, ValueError, "outputs"),
    ("asymmetric_topk", {"outputs": np.zeros((3, 16), np.float32)}, ValueError, "outputs"),
    ("asymmetric_topk", {"outputs": np.zeros((3, 25), np.float32)}, ValueError, "outputs"),
    ("asymmetric_topk", {"outputs": np.zeros((3, 0), np.float32)}, ValueError, "outputs"),
    ("asymmetric_topk", {"outputs": np.full((3, 24), math.nan, np.float32)}, ValueError, "outputs"),
    ("asymmetric_topk", {"database": np.zeros((0, 3), U8)}, ValueError, "database"),
    ("asymmetric_topk", {"database": np.zeros((9, 3), np.float32)}, TypeError, "database"),
    ("asymmetric_topk", {"database": np.zeros((9, 0), U8)}, ValueError, "database"),
    ("asymmetric_topk", {"allowed": np.zeros(19, bool)}, ValueError, "allowed"),
    ("asymmetric_topk", {"allowed": np.zeros((2, 20), bool)}, ValueError, "allowed"),
    ("asymmetric_topk", {"allowed": np.zeros(20, np.int64)}, TypeError, "allowed"),
    ("asymmetric_topk", {"check": 1}, TypeError, "check"),
    ("hamming_radius", {"radius": -1}, ValueError, "radius"),
    ("hamming_radius", {"radius": 1.5}, TypeError, "radius"),
    ("hamming_radius", {"radius": None}, TypeError, "radius"),
    ("hamming_pairs", {"radius": -1}, ValueError, "radius"),
    ("hamming_pairs", {"radius": 1.5}, TypeError, "radius"),
    ("hamming_pairs", {"codes": np.zeros((2, 3), np.int8)}, TypeError, "codes"),
    ("hamming_pairs", {"codes": np.zeros((2, 24), np.float32)}, TypeError, "codes"),
    ("hamming_pairs", {"codes": np.zeros(3, U8)}, ValueError, "codes"),
    ("hamming_pairs", {"codes": np.zeros((2, 0), U8)}, ValueError, "codes"),
    ("hamming_pairs", {"codes": np.zeros((2, 513), U8)}, ValueError, "codes"),
    ("average_precision", {"k": 0}, ValueError, "k"),
    ("average_precision", {"k": -1}, ValueError, "k"),
    ("average_precision", {"k": 1.5}, TypeError, "k"),
    ("average_precision", {"ties": "random"}, ValueError, "ties"),
    ("average_precision", {"denominator": "r"}, ValueError, "denominator"),
    ("mean_average_precision", {"k": 0}, ValueError, "k"),
    ("mean_average_precision", {"ties": "random"}, ValueError, "ties"),
    ("mean_average_precision", {"denominator": "r"}, ValueError, "denominator"),
    ("mean_average_precision", {"empty": "drop"}, ValueError, "empty"),
    ("retrieval_curves", {"empty": "drop"}, ValueError, "empty"),
    ("retrieval_curves", {"ranks": [0, 1]}, ValueError, "ranks"),
    ("retrieval_curves", {"ranks": [-5]}, ValueError, "ranks"),
    ("retrieval_curves", {"ranks": [1.5]}, TypeError, "ranks"),
    ("class_softmax_loss", {"logits": np.zeros(9, np.float32)}, ValueError, "logits"),
    ("class_softmax_loss", {"logits": np.zeros((3, 9), np.int64)}, TypeError, "logits"),
    ("class_softmax_loss", {"logits": np.zeros((3, 0), np.float32)}, ValueError, "logits|class_offsets"),
    ("class_softmax_loss", {"labels": np.zeros(3, np.float32)}, TypeError, "labels"),
    ("class_softmax_loss", {"labels": np.zeros((3, 1), np.int64)}, ValueError, "labels"),
    ("class_softmax_loss", {"labels": np.zeros(4, np.int64)}, ValueError, "labels"),
    ("class_softmax_loss", {"labels": np.array([0, 3, 1])}, ValueError, "labels"),
    ("class_softmax_loss", {"labels": np.array([0, -1, 1])}, ValueError, "labels"),
    ("class_softmax_loss", {"labels": np.array([0, 1, -100]), "ignore_index": 7}, ValueError, "labels"),
    ("class_softmax_loss", {"labels": np.array([0, 2**32, 1])}, ValueError, "labels"),
    ("class_softmax_loss", {"target": "soft"}, ValueError, "target"),
    ("class_softmax_loss", {"target": 0.0}, ValueError, "target"),
    ("class_softmax_loss", {"target": -1.0}, ValueError, "target"),
    ("class_softmax_loss", {"target": math.inf}, ValueError, "target"),
    ("class_softmax_loss", {"target": math.nan}, ValueError, "target"),
    ("class_softmax_loss", {"target": [1.0]}, TypeError, "target"),
    ("class_softmax_loss", {"reduction": "median"}, ValueError, "reduction"),
    ("class_softmax_loss", {"ignore_index": 1.5}, TypeError, "ignore_index"),
    ("class_softmax_loss", {"inplace": None}, TypeError, "inplace"),
    ("class_softmax_linear_loss", {"features": np.zeros(6, np.float32)}, ValueError, "features"),
    ("class_softmax_linear_loss", {"features": np.zeros((3, 6), np.int64)}, TypeError, "features"),
    ("class_softmax_linear_loss", {"features": np.zeros((3, 5), np.float32)}, ValueError, "weight"),
    ("class_softmax_linear_loss", {"weight": np.zeros((9, 6), np.float64)}, TypeError, "weight"),
    ("class_softmax_linear_loss", {"weight": np.zeros(9, np.float32)}, ValueError, "weight"),
    (
        "class_softmax_linear_loss",
        {"weight": np.zeros((0, 6), np.float32), "bias": None},
        ValueError,
        "weight",
    ),
    (
        "class_softmax_linear_loss",
        {"weight": np.zeros((8, 6), np.float32), "bias": None},
        ValueError,
        "class_offsets",
    ),
    ("class_softmax_linear_loss", {"bias": np.zeros(8, np.float32)}, ValueError, "bias"),
    ("class_softmax_linear_loss", {"bias": np.zeros((9, 1), np.float32)}, ValueError, "bias"),
    ("class_softmax_linear_loss", {"bias": 0.0}, TypeError, "bias"),
    ("class_softmax_linear_loss", {"labels": np.array([0, 3, 1])}, ValueError, "labels"),
    ("class_softmax_linear_loss", {"labels": np.zeros(4, np.int64)}, ValueError, "labels"),
    ("class_softmax_linear_loss", {"class_offsets": [0, 3, 3, 9]}, ValueError, "class_offsets"),
    ("class_softmax_linear_loss", {"class_offsets": [0, 3, 4, 10]}, ValueError, "class_offsets"),
    ("class_softmax_linear_loss", {"target": "soft"}, ValueError, "target"),
    ("class_softmax_linear_loss", {"reduction": "median"}, ValueError, "reduction"),
    ("class_softmax_linear_loss", {"chunk": 0}, ValueError, "chunk"),
    ("class_softmax_linear_loss", {"chunk": 2.0}, TypeError, "chunk"),
    ("class_softmax_linear_loss", {"check": 1}, TypeError, "check"),
    ("codes_from_features", {"features": np.zeros((3, 5), np.float32)}, ValueError, "weight"),
    ("codes_from_features", {"bias": np.zeros(9, np.float64)}, TypeError, "bias"),
    ("codes_from_features", {"codebook": np.zeros((8, 3), U8)}, ValueError, "codebook"),
    ("codes_from_features", {"k": 10}, ValueError, "k"),
    ("codes_from_features", {"k": 0}, ValueError, "k"),
    ("codes_from_features", {"chunk": -1}, ValueError, "chunk"),
    ("codes_from_features", {"weighting": "median"}, ValueError, "weighting"),
    ("codes_from_features", {"bias": np.full(9, math.nan, np.float32)}, ValueError, "logits"),
    ("codes_from_logits", {"logits": BAD_LOGITS}, ValueError, "logits"),
    ("codes_from_logits", {"logits": np.zeros(9, np.float32)}, ValueError, "logits"),
    ("codes_from_logits", {"logits": np.zeros((2, 9), np.complex64)}, TypeError, "logits"),
    (
        "codes_from_logits",
        {"logits": np.full((1, 9), math.inf, np.float32), "weighting": "probability"},
        ValueError,
        "logits",
    ),
    ("codes_from_logits", {"k": 0}, ValueError, "k"),
    ("codes_from_logits", {"k": 10}, ValueError, "k"),
    ("codes_from_logits", {"k": 1.0}, TypeError, "k"),
    ("codes_from_logits", {"codebook": np.zeros((8, 3), U8)}, ValueError, "codebook"),
    ("codes_from_logits", {"codebook": np.zeros((10, 3), U8)}, ValueError, "codebook"),
    ("codes_from_logits", {"codebook": np.zeros(9, U8)}, ValueError, "codebook"),
    ("codes_from_logits", {"codebook": np.zeros((9, 0), U8)}, ValueError, "codebook"),
    ("codes_from_logits", {"codebook": np.zeros((9, 3), np.int64)}, TypeError, "codebook"),
    ("codes_from_logits", {"codebook": "cpbc"}, TypeError, "codebook"),
    ("codes_from_logits", {"weighting": "median"}, ValueError, "weighting"),
    (
        "codes_from_logits",
        {"logits": np.zeros((2, 0), np.float32), "codebook": np.zeros((0, 3), U8), "k": 1},
        ValueError,
        "logits|codebook",
    ),
    ("center_codes_from_logits", {"logits": BAD_LOGITS}, ValueError, "logits"),
    ("center_codes_from_logits", {"logits": np.zeros(9, np.float32)}, ValueError, "logits"),
    ("center_codes_from_logits", {"centers": np.zeros((4, 3), U8)}, ValueError, "centers"),
    ("center_codes_from_logits", {"centers": np.zeros((2, 3), U8)}, ValueError, "centers"),
    ("center_codes_from_logits", {"centers": np.zeros((3, 0), U8)}, ValueError, "centers"),
    ("center_codes_from_logits", {"centers": np.zeros((3, 3), np.float32)}, TypeError, "centers"),
    ("multilabel_codes", {"logits": BAD_LOGITS}, ValueError, "logits"),
    ("multilabel_codes", {"logits": np.zeros(9, np.float32)}, ValueError, "logits"),
    ("multilabel_codes", {"logits": np.zeros((2, 0), np.float32)}, ValueError, "logits"),
    ("multilabel_codes", {"logits": np.zeros((1, 4097), np.float32)}, ValueError, "logits"),
    ("multilabel_codes", {"threshold": np.zeros(8, np.float32)}, ValueError, "threshold"),
    ("multilabel_codes", {"threshold": np.zeros((3, 9), np.float32)}, ValueError, "threshold"),
    ("multilabel_codes", {"threshold": math.nan}, ValueError, "threshold"),
    ("multilabel_codes", {"threshold": "0.5"}, TypeError, "threshold"),
    ("multilabel_codes", {"threshold": np.bool_(True)}, TypeError, "threshold"),
    ("multilabel_codes", {"threshold": np.complex64(1)}, TypeError, "threshold"),
]
for _op in RANKING:
    CASES += [
        (_op, {"queries": np.zeros((3, 3), np.int8)}, TypeError, "queries"),
        (_op, {"queries": np.zeros((3, 24), np.float32)}, TypeError, "queries"),
        (_op, {"database": np.zeros((20, 3), np.bool_)}, TypeError, "database"),
        (_op, {"queries": np.zeros(3, U8)}, ValueError, "queries"),
        (_op, {"database": np.zeros((20, 3, 1), U8)}, ValueError, "database"),
        (_op, {"queries": np.zeros((3, 4), U8)}, ValueError, "queries|database"),
        (
            _op,
            {"database": np.zeros((20, 513), U8), "queries": np.zeros((3, 513), U8)},
            ValueError,
            "queries|database",
        ),
        (
            _op,
            {"database": np.zeros((20, 0), U8), "queries": np.zeros((3, 0), U8)},
            ValueError,
            "queries|database",
        ),
        (_op, {"score": "cosine"}, ValueError, "score"),
    ]
    _none = {"database": np.zeros((0, 3), U8)} | (
        {"database_labels": np.zeros(0, int)} if _op in LABELLED else {}
    )
    CASES.append((_op, _none, ValueError, "database"))
    if _op == "hamming_distance":
        continue
    CASES += [
        (_op, {"allowed": np.ones(21, bool)}, ValueError, "allowed"),
        (_op, {"allowed": np.ones((4, 20), bool)}, ValueError, "allowed"),
        (_op, {"allowed": np.ones((3, 20, 1), bool)}, ValueError, "allowed"),
        (_op, {"allowed": np.ones(20, U8)}, ValueError, "allowed"),
        (_op, {"allowed": np.ones((3, 2), U8)}, ValueError, "allowed"),
        (_op, {"allowed": np.ones(20, np.float32)}, TypeError, "allowed"),
        (_op, {"allowed": np.arange(20)}, TypeError, "allowed"),
    ]
for _op in LABELLED:
    CASES += [
        (_op, {"query_labels": np.zeros(2, int)}, ValueError, "query_labels"),
        (_op, {"database_labels": np.zeros(21, int)}, ValueError, "database_labels"),
        (_op, {"query_labels": np.zeros(3, np.float32)}, TypeError, "query_labels"),
        (_op, {"database_labels": np.zeros(20, np.float64)}, TypeError, "database_labels"),
        (_op, {"query_labels": np.zeros((3, 5, 1), int)}, ValueError, "query_labels"),
        (_op, {"query_labels": HOT_Q}, ValueError, "query_labels|database_labels"),
        (_op, {"database_labels": HOT_D}, ValueError, "query_labels|database_labels"),
        (
            _op,
            {"query_labels": HOT_Q[:, :4], "database_labels": HOT_D},
            ValueError,
            "query_labels|database_labels",
        ),
        (_op, {"query_labels": HOT_Q * 2, "database_labels": HOT_D}, ValueError, "query_labels"),
        (_op, {"query_labels": HOT_Q, "database_labels": HOT_D * -1}, ValueError, "database_labels"),
        (_op, {"query_labels": HOT_Q * 0.5, "database_labels": HOT_D}, ValueError, "query_labels"),
        (_op, {"query_labels": HOT_Q, "database_labels": HOT_D * math.nan}, ValueError, "database_labels"),
        (_op, {"query_labels": HOT_Q * 1j, "database_labels": HOT_D}, TypeError, "query_labels"),
        (_op, {"n_bits": 16}, ValueError, "n_bits"),
        (_op, {"n_bits": 25}, ValueError, "n_bits"),
        (_op, {"n_bits": 0}, ValueError, "n_bits"),
        (_op, {"n_bits": 20.0}, TypeError, "n_bits"),
        (
            _op,
            {"n_bits": 23, "queries": np.zeros((3, 3), U8), "database": np.full((20, 3), 128, U8)},
            ValueError,
            "database",
        ),
        (
            _op,
            {"n_bits": 17, "queries": np.full((3, 3), 2, U8), "database": np.zeros((20, 3), U8)},
            ValueError,
            "queries",
        ),
    ]
for _op in ("class_softmax_loss", "center_codes_from_logits"):
    CASES += [
        (_op, {"class_offsets": offsets}, error, "class_offsets")
        for offsets, error in (
            ([1, 3, 4, 9], ValueError),
            ([0, 3, 4, 8], ValueError),
            ([0, 3, 4, 10], ValueError),
            ([0, 4, 3, 9], ValueError),
            ([0, 3, 3, 9], ValueError),
            ([0], ValueError),
            ([], ValueError),
            (np.array([[0, 3, 4, 9]]), ValueError),
            ([0, -1, 4, 9], ValueError),
            (np.array([0, 3.0, 4, 9]), TypeError),
            ([0, 3.5, 4, 9], TypeError),
            ("0349", TypeError),
        )
    ]


def case_name(case: Case) -> str:
    op, changed, _, argument = case
    shown = []
    for name, value in changed.items():
        text = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
        shown.append(f"{name}={text}")
    return f"{op}-{argument.split('|')[0]}-{','.join(shown)}"[:110]


@pytest.mark.parametrize("kind", ("numpy", "torch"))
@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_refused(case: Case, kind: str) -> None:
    op, changed, error, argument = case
    call = good_calls()[op] | changed
    if kind == "torch":
        call = tensors(call)
    with pytest.raises(error) as caught:
        getattr(dshc_fast, op)(**call)
    assert type(caught.value) is error, f"a plain {error.__name__}, not {type(caught.value).__name__}"
    assert re.search(rf"\b({argument})\b", str(caught.value)), f"does not name {argument}: {caught.value}"


@pytest.mark.parametrize("op", OPS)
def test_the_good_call_is_good(op: str) -> None:
    getattr(dshc_fast, op)(**good_calls()[op])
    getattr(dshc_fast, op)(**tensors(good_calls()[op]))


def test_numpy_dtypes_that_torch_lacks() -> None:
    for values in (
        np.array([["a", "b"]]),
        np.array([[1, None]]),
        np.zeros((2, 8), "M8[s]"),
        np.zeros((2, 8), "V4"),
    ):
        with pytest.raises(TypeError, match=r"\bvalues\b"):
            dshc_fast.pack_codes(values)


def test_messages_say_what_came_and_what_is_taken() -> None:
    call = good_calls()["hamming_topk"]
    with pytest.raises(ValueError, match="21.*20|20.*21"):
        dshc_fast.hamming_topk(**call | {"k": 21})
    with pytest.raises(TypeError, match="uint8"):
        dshc_fast.hamming_topk(**call | {"queries": call["queries"].astype(np.int64)})
    with pytest.raises(TypeError, match="int64"):
        dshc_fast.hamming_topk(**call | {"queries": call["queries"].astype(np.int64)})
    with pytest.raises(ValueError, match="overlap"):
        dshc_fast.hamming_topk(**call, score="cosine")


def test_options_are_keyword_only() -> None:
    call = good_calls()["hamming_topk"]
    with pytest.raises(TypeError):
        dshc_fast.hamming_topk(call["queries"], call["database"], 5, "overlap")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_tensor_on_a_cpu_build_or_mixed_devices() -> None:
    call = tensors(good_calls()["hamming_distance"])
    mixed = call | {"queries": call["queries"].cuda()}
    with pytest.raises((ValueError, RuntimeError), match="database|cuda|CUDA"):
        dshc_fast.hamming_distance(**mixed)
    if not dshc_fast.build_info()["cuda"]:
        with pytest.raises(RuntimeError, match="CUDA"):
            dshc_fast.hamming_distance(**tensors(good_calls()["hamming_distance"], "cuda"))


def test_numbers_beyond_int64() -> None:
    """Where more than all means all, the size of the number does not matter; elsewhere it is out of range."""
    call = good_calls()["hamming_radius"]
    everything = dshc_fast.hamming_radius(call["queries"], call["database"], 10**30)
    assert everything.offsets[-1] == len(call["queries"]) * len(call["database"])
    labelled = good_calls()["average_precision"]
    assert np.array_equal(
        dshc_fast.average_precision(**labelled, k=10**30),
        dshc_fast.average_precision(**labelled),
        equal_nan=True,
    )
    with pytest.raises(ValueError, match="^k must be between 1 and"):
        dshc_fast.hamming_topk(call["queries"], call["database"], 10**30)


def test_sparse_tensors_are_refused() -> None:
    with pytest.raises(TypeError, match="values must be a dense tensor, got layout"):
        dshc_fast.pack_codes(torch.eye(3).to_sparse())


def test_a_label_error_names_the_last_class() -> None:
    with pytest.raises(
        ValueError, match=r"labels\[1\] must be a class id from 0 to 2, or ignore_index, got 7"
    ):
        dshc_fast.class_softmax_loss(torch.zeros(2, 9), torch.tensor([0, 7]), [0, 3, 4, 9])
