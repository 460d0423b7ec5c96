"""mean_average_precision: the mean of AP, and what becomes of queries with nothing relevant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from callers import both, native, to_torch
from comparisons import assert_close
from hypothesis import given
from hypothesis import strategies as st
from strategies import Problem, problems

import dshc_fast


def four_queries() -> tuple[np.ndarray, ...]:
    """AP 1, 1/2, NaN (nothing relevant) and 1/3 against three items at distances 0, 1, 2."""
    queries = np.zeros((4, 1), np.uint8)
    database = np.array([[0], [1], [3]], np.uint8)
    return queries, database, np.array([10, 20, 99, 30]), np.array([10, 20, 30])


def test_by_hand(backend) -> None:
    problem = four_queries()
    mean = (1 + 1 / 2 + 1 / 3) / 4
    for who, value in both("mean_average_precision", backend.device, *problem):
        assert_close(np.asarray(value), mean, name=who)
    for who, value in both("mean_average_precision", backend.device, *problem, empty="skip"):
        assert_close(np.asarray(value), mean * 4 / 3, name=who)
    with pytest.raises(ValueError, match="quer"):
        native("mean_average_precision", backend.device, *problem, empty="error")
    some = [0, 1, 3]
    queries, database, query_labels, database_labels = problem
    value = native(
        "mean_average_precision",
        backend.device,
        queries[some],
        database,
        query_labels[some],
        database_labels,
        empty="error",
    )
    assert_close(np.asarray(value), mean * 4 / 3)


def test_kinds(device: str) -> None:
    """A Python float for numpy, a 0-d float64 tensor on the inputs' device for torch."""
    problem = four_queries()
    assert type(dshc_fast.mean_average_precision(*problem)) is float
    value = dshc_fast.mean_average_precision(*[to_torch(part, device) for part in problem])
    assert isinstance(value, torch.Tensor) and value.dtype == torch.float64 and value.shape == ()
    assert value.device.type == device


@pytest.mark.parametrize("empty", ("zero", "skip", "error"))
def test_no_query_left(empty: str, device: str) -> None:
    queries, database, query_labels, database_labels = four_queries()
    problem = queries[:0], database, query_labels[:0], database_labels
    assert math.isnan(dshc_fast.mean_average_precision(*problem, empty=empty))
    value = dshc_fast.mean_average_precision(*[to_torch(part, device) for part in problem], empty=empty)
    assert value.isnan()


def test_all_queries_empty(device: str) -> None:
    queries, database, _, database_labels = four_queries()
    problem = [to_torch(part, device) for part in (queries, database, np.full(4, 7), database_labels)]
    assert dshc_fast.mean_average_precision(*problem) == 0
    assert dshc_fast.mean_average_precision(*problem, empty="skip").isnan()
    with pytest.raises(ValueError, match="quer"):
        dshc_fast.mean_average_precision(*problem, empty="error")


@given(problem=problems(), data=st.data())
def test_is_the_mean(problem: Problem, data, backend) -> None:
    options = {
        "k": data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 2))),
        "ties": data.draw(st.sampled_from(("expected", "index", "best", "worst"))),
        "denominator": data.draw(st.sampled_from(("retrieved", "min", "relevant"))),
        "score": problem.score,
        "n_bits": problem.n_bits,
        "allowed": problem.allowed,
    }
    ap = native("average_precision", backend.device, *problem.labelled(), **options)
    kept = ap[~np.isnan(ap)]
    means = {
        "zero": kept.sum() / len(ap) if len(ap) else np.nan,
        "skip": kept.mean() if len(kept) else np.nan,
    }
    for empty, mean in means.items():
        for who, value in both(
            "mean_average_precision", backend.device, *problem.labelled(), empty=empty, **options
        ):
            assert_close(np.asarray(value), mean, name=f"{who} {empty}")
