"""evaluate_outputs(): the core's numbers where outputs are codes, a plain loop's elsewhere."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from effort import examples
from evaluation_sets import random_labels
from hypothesis import given, settings
from hypothesis import strategies as st

import dshc.evaluation.real_valued
import dshc_fast
from dshc.evaluation import Conventions, evaluate_outputs
from dshc.evaluation.ranked_precision import average_precision

TIES, DENOMINATORS = ("expected", "index", "best", "worst"), ("retrieved", "min", "relevant")


def signs(rng: np.random.Generator, n: int, n_bits: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], (n, n_bits))


@settings(max_examples=examples(100))
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 60), st.integers(1, 40)),
    multilabel=st.booleans(),
    measure=st.sampled_from(["inner", "cosine", "l2"]),
    k=st.none() | st.integers(1, 70),
    chunk=st.none() | st.integers(1, 13),
    wide=st.booleans(),
)
def test_outputs_that_are_codes_give_the_numbers_of_the_core(
    seed: int,
    sizes: tuple[int, int, int],
    multilabel: bool,
    measure: str,
    k: int | None,
    chunk: int | None,
    wide: bool,
) -> None:
    rng = np.random.default_rng(seed)
    n_query, n_db, n_bits = sizes
    outputs = [signs(rng, n, n_bits).astype(np.float64 if wide else np.float32) for n in (n_query, n_db)]
    labels = random_labels(rng, (n_query, n_db), multilabel)
    codes = [dshc_fast.pack_codes(values) for values in outputs]
    for ties in TIES:
        for denominator in DENOMINATORS:
            expected = dshc_fast.average_precision(
                *codes, *labels, n_bits=n_bits, k=k, ties=ties, denominator=denominator
            )
            found = evaluate_outputs(
                *outputs,
                *labels,
                measure=measure,
                chunk=chunk,
                conventions=Conventions(k=k, ties=ties, denominator=denominator, ks=(3,)),
            )
            np.testing.assert_allclose(found.per_query, expected, rtol=1e-12, err_msg=f"{ties} {denominator}")
            at_3 = dshc_fast.mean_average_precision(
                *codes, *labels, n_bits=n_bits, k=3, ties=ties, denominator=denominator
            )
            assert found.at_k[3] == pytest.approx(at_3, rel=1e-12)


@pytest.mark.parametrize("measure", ["cosine", "inner", "l2"])
@pytest.mark.parametrize("ties", ["index", "best", "worst"])
def test_real_outputs_agree_with_a_plain_loop(measure: str, ties: str) -> None:
    rng = np.random.default_rng(1)
    queries, database = (
        rng.normal(size=(15, 6)).astype(np.float32),
        rng.normal(size=(80, 6)).astype(np.float32),
    )
    database[40:60] = database[rng.integers(0, 40, 20)]  # items that are equal
    query_labels, database_labels = random_labels(rng, (15, 80), False)
    found = evaluate_outputs(
        queries, database, query_labels, database_labels, measure=measure, conventions=Conventions(ties=ties)
    )
    for query, label, value in zip(queries, query_labels, found.per_query, strict=True):
        scores = [similarity(query, item, measure) for item in database]
        right = database_labels == label
        inside = {"index": 0 * right, "best": ~right, "worst": right}[ties]
        order = sorted(range(80), key=lambda item: (-scores[item], inside[item], item))
        precisions = [sum(right[order[: rank + 1]]) / (rank + 1) for rank in range(80) if right[order[rank]]]
        assert value == pytest.approx(np.mean(precisions), rel=1e-12)


def similarity(query: np.ndarray, item: np.ndarray, measure: str) -> float:
    """In exact arithmetic, so that equal items are equal and no two others."""
    x, y = ([Fraction(float(v)) for v in row] for row in (query, item))
    inner = sum(a * b for a, b in zip(x, y, strict=True))
    if measure == "inner":
        return float(inner)
    if measure == "l2":
        return -float(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
    return float(inner) / math.sqrt(sum(a * a for a in x)) / math.sqrt(sum(b * b for b in y))


def test_equal_items_tie_wherever_they_stand() -> None:
    # Products of matrices round equal columns apart on some machines; then a tie would be an order.
    rng = np.random.default_rng(2)
    base = rng.normal(size=(1, 257)).astype(np.float32)
    database = np.repeat(base, 1003, axis=0)
    labels = np.arange(1003) % 2
    found = evaluate_outputs(rng.normal(size=(3, 257)).astype(np.float32), database, labels[:3], labels)
    zeros = np.zeros((1, 1), np.uint8), np.zeros((1003, 1), np.uint8)
    for value, label in zip(found.per_query, labels, strict=False):
        expected = dshc_fast.average_precision(*zeros, labels[label : label + 1], labels)
        assert value == pytest.approx(expected[0], rel=1e-12)


def test_a_long_tie_at_the_cut_agrees_with_the_core() -> None:
    # 3000 items at one similarity: factorials would overflow, and logarithms of them round.
    outputs, labels = np.ones((3000, 1)), np.arange(3000) % 3
    found = evaluate_outputs(outputs[:3], outputs, labels[:3], labels, conventions=Conventions(k=1234))
    codes = np.ones((3000, 1), np.uint8)
    expected = dshc_fast.average_precision(codes[:3], codes, labels[:3], labels, k=1234)
    np.testing.assert_allclose(found.per_query, expected, rtol=1e-12)


def test_zero_outputs_and_signed_zeros() -> None:
    database = np.array([[0.0, 0.0], [-0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    for measure in ("cosine", "inner"):
        found = evaluate_outputs(
            np.array([[1.0, 0.0]]),
            database,
            np.array([1]),
            np.array([0, 1, 0, 0]),
            measure=measure,
            conventions=Conventions(ties="best"),
        )
        assert found.mean_ap == 1 / 2  # the two zeros tie behind the last item


def test_the_answer_does_not_depend_on_strides_kind_or_chunk() -> None:
    rng = np.random.default_rng(3)
    queries, database = rng.normal(size=(20, 8))[::2], rng.normal(size=(8, 50)).T
    labels = random_labels(rng, (10, 50), True)
    expected = evaluate_outputs(queries, database, *labels)
    tensors = [torch.from_numpy(a.copy()) for a in (queries, database, *labels)]
    for found in (evaluate_outputs(*tensors), evaluate_outputs(queries, database, *labels, chunk=3)):
        np.testing.assert_allclose(found.per_query, expected.per_query, rtol=1e-12)
    requires = tensors[0].clone().requires_grad_()
    assert evaluate_outputs(requires, *tensors[1:]).mean_ap == expected.mean_ap


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ties", TIES)
def test_outputs_on_a_device(ties: str) -> None:
    rng = np.random.default_rng(4)
    outputs = [signs(rng, n, 12).astype(np.float32) for n in (9, 60)]
    labels = random_labels(rng, (9, 60), False)
    for conventions in (Conventions(ties=ties), Conventions(ties=ties, k=17)):
        expected = evaluate_outputs(*outputs, *labels, conventions=conventions)
        there = [torch.from_numpy(values).cuda() for values in outputs]
        found = evaluate_outputs(*there, *labels, conventions=conventions)
        np.testing.assert_allclose(found.per_query, expected.per_query, rtol=1e-12)


def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(scores: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(tuple(scores.shape))
        return average_precision(scores, *rest)

    monkeypatch.setattr(dshc.evaluation.real_valued, "average_precision", watched)
    monkeypatch.setattr(dshc.evaluation.real_valued, "_PAIRS", 100)
    outputs, labels = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    evaluate_outputs(outputs, outputs, labels, labels)
    evaluate_outputs(outputs, outputs, labels, labels, chunk=20)
    assert seen == [(3, 30)] * 10 + [(20, 30), (10, 30)]


def test_queries_with_nothing_relevant() -> None:
    outputs, labels = np.eye(4), np.array([0, 1, 2, 3])
    asked = labels.copy()
    asked[0] = 9
    zero = evaluate_outputs(outputs, outputs, asked, labels)
    skip = evaluate_outputs(outputs, outputs, asked, labels, conventions=Conventions(empty="skip", k=1))
    assert (zero.mean_ap, skip.mean_ap, zero.n_empty) == (0.75, 1.0, 1) and math.isnan(zero.per_query[0])
    assert zero.line() == (
        "mAP@all 0.7500 (measure=cosine, ties=expected, denominator=retrieved, empty=zero, 4 queries, "
        "4 database, 4 real outputs, 1 queries with nothing relevant)"
    )
    assert skip.line().startswith("mAP@1 1.0000 (measure=cosine, ties=expected,")
    with pytest.raises(ValueError, match="got 1 of 4 queries with nothing"):
        evaluate_outputs(outputs, outputs, asked, labels, conventions=Conventions(empty="error"))


def test_wrong_arguments_are_named() -> None:
    good, ids = np.ones((3, 2)), np.arange(3)
    broken, infinite = good.copy(), good.copy()
    broken[1, 1], infinite[0, 0] = math.nan, math.inf
    hot = np.ones((3, 4))
    for error, words, arguments, options in [
        (ValueError, "query_outputs must be finite numbers, got NaN", (broken, good, ids, ids), {}),
        (ValueError, "database_outputs must be finite numbers, got inf", (good, infinite, ids, ids), {}),
        (ValueError, "database_outputs must be at most 1e", (good, 1e200 * good, ids, ids), {}),
        (TypeError, "query_outputs must be floating-point", (good.astype(int), good, ids, ids), {}),
        (TypeError, "query_outputs must be a numpy array", ([[1.0]], good, ids, ids), {}),
        (ValueError, r"query_outputs must have shape .* got \(0, 2\)", (good[:0], good, ids[:0], ids), {}),
        (ValueError, "one width, got", (good[:, :1], good, ids, ids), {}),
        (ValueError, r"query_labels must have shape \(3,\)", (good, good, ids[:2], ids), {}),
        (ValueError, "both be class ids", (good, good, ids, hot), {}),
        (ValueError, "database_labels must be 0 and 1", (good, good, hot, 2 * hot), {}),
        (TypeError, "query_labels must be integers", (good, good, ids + 0.5, ids), {}),
        (ValueError, "measure must be one of cosine, inner, l2", (good, good, ids, ids), {"measure": "cos"}),
        (ValueError, "chunk must be at least 1, got 0", (good, good, ids, ids), {"chunk": 0}),
        (
            ValueError,
            "score must be None for real-valued outputs, got hamming",
            (good, good, ids, ids),
            {"conventions": Conventions(score="hamming")},
        ),
        (
            ValueError,
            "metrics must be empty for real-valued outputs, which have mAP alone, got ndcg@5",
            (good, good, ids, ids),
            {"conventions": Conventions(metrics=("ndcg@5",))},
        ),
    ]:
        with pytest.raises(error, match=words):
            evaluate_outputs(*arguments, **options)


def test_the_example_of_the_docstring_runs() -> None:
    found = doctest.testmod(dshc.evaluation.real_valued)
    assert found.failed == 0 < found.attempted


@pytest.mark.parametrize("name", ["query_labels", "database_labels"])
def test_labels_in_words_are_named(name):
    given = {
        "query_labels": np.array([0, 1]),
        "database_labels": np.array([0, 1]),
        name: np.array(["a", "b"]),
    }
    with pytest.raises(TypeError, match=f"{name} must be integers, or multi-hot 0 and 1, got text"):
        evaluate_outputs(torch.eye(2), torch.eye(2), **given)
