"""retrieval_curves: precision and recall at each radius and at given ranks."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from callers import both, native, to_torch
from comparisons import assert_close
from hypothesis import given
from hypothesis import strategies as st
from ranked import ranked_problem
from strategies import SCORES, Problem, make_codes, problems

import dshc_fast

FIELDS = (
    "radius",
    "precision",
    "recall",
    "precision_micro",
    "recall_micro",
    "empty_balls",
    "ranks",
    "precision_at_rank",
    "recall_at_rank",
)


def oracle(problem: Problem, ranks, empty: str = "zero") -> dict[str, np.ndarray]:
    """The definitions, query by query. `skip` leaves a query with nothing relevant out of every number."""
    n_bits = problem.n_bits or 8 * problem.queries.shape[1]
    radius = np.arange(n_bits + 1) if problem.score == "hamming" else np.arange(n_bits, -1, -1)
    values = oracles.counts(problem.queries, problem.database, problem.score)
    may = oracles.allowed_matrix(problem.allowed, *values.shape)
    hits = may & oracles.relevance(problem.query_labels, problem.database_labels)
    kept = [q for q in range(len(values)) if empty == "zero" or hits[q].any()]
    near = (lambda v, r: v <= r) if problem.score == "hamming" else (lambda v, r: v >= r)
    balls = np.array([[(may[q] & near(values[q], r)).sum() for r in radius] for q in kept], dtype=float)
    found = np.array([[(hits[q] & near(values[q], r)).sum() for r in radius] for q in kept], dtype=float)
    shape = (len(kept), len(radius))
    balls, found = balls.reshape(shape), found.reshape(shape)
    total = np.array([hits[q].sum() for q in kept], dtype=float)[:, None]

    def ratio(a, b):
        return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=np.broadcast_to(b > 0, a.shape))

    at_rank = np.zeros((len(kept), len(ranks)))
    for row, q in enumerate(kept):
        keys = oracles.sort_keys(values[q], problem.score)[may[q]]
        groups = oracles.tie_groups(keys, hits[q][may[q]])
        at_rank[row] = [float(oracles.expected_relevant_in(groups, int(rank))) for rank in ranks]
    return {
        "radius": radius,
        "precision": ratio(found, balls).mean(0),
        "recall": ratio(found, total).mean(0),
        "precision_micro": ratio(found.sum(0), balls.sum(0)),
        "recall_micro": ratio(found.sum(0), np.broadcast_to(total.sum(), shape[1:])),
        "empty_balls": (balls == 0).mean(0),
        "ranks": np.asarray(ranks),
        "precision_at_rank": (at_rank / np.asarray(ranks)[None]).mean(0),
        "recall_at_rank": ratio(at_rank, total).mean(0),
    }


def check(curves, expected: dict[str, np.ndarray], name: str) -> None:
    assert tuple(curves._fields) == FIELDS
    for field in FIELDS:
        assert_close(
            np.asarray(getattr(curves, field), dtype=np.float64), expected[field], 1e-12, f"{name}.{field}"
        )


def test_by_hand() -> None:
    """One query, distances 0 1 1 2 2 2, relevant 1 0 1 1 0 0: P@4 = 7/12, R@4 = 7/9."""
    problem = ranked_problem([0, 1, 1, 2, 2, 2], [1, 0, 1, 1, 0, 0])
    curves = dshc_fast.retrieval_curves(*problem, ranks=[1, 2, 4, 6], n_bits=3)
    np.testing.assert_array_equal(curves.radius, [0, 1, 2, 3])
    np.testing.assert_allclose(curves.precision, [1, 2 / 3, 1 / 2, 1 / 2], rtol=1e-12)
    np.testing.assert_allclose(curves.recall, [1 / 3, 2 / 3, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(curves.precision_at_rank, [1, 3 / 4, 7 / 12, 1 / 2], rtol=1e-12)
    np.testing.assert_allclose(curves.recall_at_rank, [1 / 3, 1 / 2, 7 / 9, 1], rtol=1e-12)
    np.testing.assert_array_equal(curves.empty_balls, [0, 0, 0, 0])


def test_macro_and_micro_differ() -> None:
    """Query 0 finds its 1 at radius 0; query 1 has an empty ball there, and its 2 among 3 at radius 8."""
    queries, database = np.array([[0], [255]], np.uint8), np.array([[0], [1], [1]], np.uint8)
    curves = dshc_fast.retrieval_curves(queries, database, np.array([0, 1]), np.array([0, 1, 1]))
    assert (curves.precision[0], curves.recall[0], curves.empty_balls[0]) == (0.5, 0.5, 0.5)
    assert (curves.precision_micro[0], curves.recall_micro[0]) == (1.0, 1 / 3)
    np.testing.assert_allclose([curves.precision[8], curves.precision_micro[8]], [1 / 2, 1 / 2], rtol=1e-12)
    assert (curves.recall[8], curves.recall_micro[8], curves.empty_balls[8]) == (1, 1, 0)


def test_default_ranks(device: str) -> None:
    rng = np.random.default_rng(1)
    for n_db in (1, 4, 5, 99, 100, 1003, 5000):
        codes, ids = make_codes(rng, n_db, 1), rng.integers(0, 2, n_db)
        curves = native("retrieval_curves", device, codes[:2], codes, ids[:2], ids)
        assert curves.ranks.tolist() == [r for r in oracles.DEFAULT_RANKS if r <= n_db]
        assert curves.precision_at_rank.shape == curves.recall_at_rank.shape == curves.ranks.shape


@given(problem=problems(max_db=60, widths=(1, 2, 3, 9)), data=st.data())
def test_random(problem: Problem, data, backend) -> None:
    if not len(problem.queries):
        return
    may = oracles.allowed_matrix(problem.allowed, len(problem.queries), len(problem.database))
    # A rank past the last allowed item has no settled meaning; those up to it do, for every query.
    most = max(1, int(may.sum(1).min()))
    ranks = sorted(data.draw(st.sets(st.integers(1, most), min_size=1, max_size=5), label="ranks"))
    hits = may & oracles.relevance(problem.query_labels, problem.database_labels)
    options = {"score": problem.score, "n_bits": problem.n_bits, "allowed": problem.allowed, "ranks": ranks}
    for empty in ("zero", "skip") if hits.any() else ("zero",):
        expected = oracle(problem, ranks, empty)
        for who, curves in both(
            "retrieval_curves", backend.device, *problem.labelled(), empty=empty, **options
        ):
            check(curves, expected, f"{who} {empty}")


@pytest.mark.parametrize("score", SCORES)
def test_larger(score: str, backend) -> None:
    rng = np.random.default_rng(2)
    database, ids = make_codes(rng, 3001, 8, "near"), rng.integers(0, 5, 3001)
    problem = Problem(database[:40], database, ids[:40], ids, score, None, None)
    ranks = [1, 7, 100, 1000, 3001]
    curves = native("retrieval_curves", backend.device, *problem.labelled(), score=score, ranks=ranks)
    check(curves, oracle(problem, ranks), score)


def test_ends_of_the_curve(backend) -> None:
    """At the last radius everything is in the ball; recall never falls along the radius."""
    rng = np.random.default_rng(3)
    database, ids = make_codes(rng, 200, 3), rng.integers(0, 3, 200)
    for score in SCORES:
        curves = native("retrieval_curves", backend.device, database[:5], database, ids[:5], ids, score=score)
        assert curves.radius[-1] == (24 if score == "hamming" else 0)
        assert curves.recall[-1] == curves.recall_micro[-1] == 1 and curves.empty_balls[-1] == 0
        assert (np.diff(curves.recall) >= 0).all() and (np.diff(curves.empty_balls) <= 0).all()


def test_empty_error(device: str) -> None:
    codes = to_torch(np.zeros((2, 1), np.uint8), device)
    ids, other = to_torch(np.array([0, 1]), device), to_torch(np.array([0, 0]), device)
    with pytest.raises(ValueError, match="quer"):
        dshc_fast.retrieval_curves(codes, codes, ids, other, empty="error")
    dshc_fast.retrieval_curves(codes, codes, ids, ids, empty="error")


def test_no_query_left(device: str) -> None:
    """Means of nothing are NaN; shapes stay."""
    codes, ids = np.zeros((2, 1), np.uint8), np.array([0, 1])
    for empty, queries, labels in (("zero", codes[:0], ids[:0]), ("skip", codes, ids + 5)):
        curves = native("retrieval_curves", device, queries, codes, labels, ids, empty=empty)
        assert curves.precision.shape == (9,) and curves.recall_at_rank.shape == (1,)
        assert np.isnan(curves.precision).all() and np.isnan(curves.recall).all()


def test_kinds(device: str) -> None:
    problem = ranked_problem([0, 1], [1, 0])
    for field in dshc_fast.retrieval_curves(*problem):
        assert isinstance(field, np.ndarray)
    for name, field in zip(
        FIELDS, dshc_fast.retrieval_curves(*[to_torch(p, device) for p in problem]), strict=True
    ):
        assert isinstance(field, torch.Tensor) and field.device.type == device, name
        if name not in ("radius", "ranks"):
            assert field.dtype == torch.float64, name
    assert math.isclose(float(dshc_fast.retrieval_curves(*problem).precision[0]), 1.0)
