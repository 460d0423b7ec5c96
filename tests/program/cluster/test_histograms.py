"""Averages of histograms: those of the core, but for rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dshc_fast
from dshc.cluster import average_precision_of, curves_of
from dshc.cluster.histograms import _reciprocal_sums, usual_ranks
from dshc.errors import InputError


@st.composite
def problems(draw: st.DrawFn):
    """Queries and a database with labels, and the name of the score."""
    n_bits, n = draw(st.integers(1, 40)), draw(st.integers(1, 400))
    n_classes = draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = dshc_fast.pack_codes(rng.standard_normal((n + 3, n_bits)))
    labels = rng.integers(0, n_classes, n + 3)
    return (
        (codes[:3], codes[3:], labels[:3], labels[3:]),
        n_bits,
        draw(st.sampled_from(["hamming", "overlap"])),
    )


@given(
    problems(),
    st.none() | st.integers(1, 500),
    st.sampled_from(["expected", "best", "worst"]),
    st.sampled_from(["retrieved", "min", "relevant"]),
)
def test_average_precision(problem, k: int | None, ties: str, denominator: str) -> None:
    operands, n_bits, score = problem
    options = {"k": k, "ties": ties, "denominator": denominator, "score": score}
    counts = dshc_fast.hamming_histogram(*operands, score=score, n_bits=n_bits)
    found = average_precision_of(*counts, **options)
    want = dshc_fast.average_precision(*operands, n_bits=n_bits, **options)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


@given(problems(), st.sampled_from(["zero", "skip"]))
def test_curves(problem, empty: str) -> None:
    operands, n_bits, score = problem
    counts = dshc_fast.hamming_histogram(*operands, score=score, n_bits=n_bits)
    found = curves_of(*counts, ranks=usual_ranks(len(operands[1])), score=score, empty=empty)
    want = dshc_fast.retrieval_curves(*operands, n_bits=n_bits, score=score, empty=empty)
    for name, one, two in zip(found._fields, found, want, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("before", [0, 1, 30, 31, 32, 33, 1000, 10**6, 10**9, 10**11])
@pytest.mark.parametrize("m", [0, 1, 2, 5, 40, 3000])
def test_sums_of_reciprocals(before: int, m: int) -> None:
    (s0,), (s1,) = _reciprocal_sums(np.array([before]), np.array([m]))
    assert s0 == pytest.approx(math.fsum(1 / (before + t) for t in range(1, m + 1)), rel=1e-14, abs=0)
    want = math.fsum((t - 1) / (before + t) for t in range(1, m + 1))
    assert s1 == pytest.approx(want, rel=1e-12, abs=1e-16)


def test_more_items_than_any_memory_holds() -> None:
    """1e11 items, of which all relevant ones come first, then last; the values are known."""
    n = 10**11
    first = average_precision_of(np.array([[1000, n - 1000]]), np.array([[1000, 0]]))
    assert first == pytest.approx(1, abs=1e-12)
    last = average_precision_of(np.array([[n - 1, 1]]), np.array([[0, 1]]))
    assert last == pytest.approx(1 / n, rel=1e-12)


def test_what_a_histogram_does_not_tell() -> None:
    counts = np.array([[1, 2]]), np.array([[1, 0]])
    with pytest.raises(
        InputError, match="ties of histograms must be one of expected, best, worst, got 'index'"
    ):
        average_precision_of(*counts, ties="index")
    with pytest.raises(
        InputError, match="denominator of histograms must be one of .* did you mean 'retrieved'"
    ):
        average_precision_of(*counts, denominator="retreived")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        average_precision_of(*counts, k=0)
