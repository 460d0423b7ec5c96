"""The comparison helpers and the oracles are right themselves: planted mistakes are rejected."""

from __future__ import annotations

from collections import namedtuple
from fractions import Fraction

import comparisons
import numpy as np
import oracles
import pytest
from loss_oracle import exact_gradient, exact_loss

TopK = namedtuple("TopK", "distances indices")
Radius = namedtuple("Radius", "offsets indices distances")
Histogram = namedtuple("Histogram", "items relevant")


def topk() -> TopK:
    return TopK(np.array([[1, 2, 2]], np.int32), np.array([[7, 0, 4]], np.int64))


def test_topk_accepts_equal() -> None:
    comparisons.assert_same_topk(topk(), [[1, 2, 2]], [[7, 0, 4]])


@pytest.mark.parametrize(
    "planted",
    [
        TopK(np.array([[1, 2, 2]], np.int32), np.array([[7, 4, 0]], np.int64)),  # a tie in the wrong order
        TopK(np.array([[1, 2, 3]], np.int32), np.array([[7, 0, 4]], np.int64)),  # a distance off by one
        TopK(np.array([[1, 2, 2]], np.int64), np.array([[7, 0, 4]], np.int64)),  # wrong dtype
        TopK(np.array([[1, 2, 2]], np.int32), np.array([[7, 0, 4]], np.int32)),
        TopK(np.array([[1, 2]], np.int32), np.array([[7, 0]], np.int64)),  # one too few
        TopK(np.array([1, 2, 2], np.int32), np.array([7, 0, 4], np.int64)),  # lost a dimension
        namedtuple("Other", "indices distances")(np.array([[7, 0, 4]]), np.array([[1, 2, 2]], np.int32)),
    ],
)
def test_topk_rejects(planted) -> None:
    with pytest.raises(AssertionError, match="topk"):
        comparisons.assert_same_topk(planted, [[1, 2, 2]], [[7, 0, 4]])


def test_message_names_the_place() -> None:
    with pytest.raises(AssertionError, match=r"indices.*first at \(0, 1\): 0, expected 5"):
        comparisons.assert_same_topk(topk(), [[1, 2, 2]], [[7, 5, 4]])


def test_radius_and_histogram_reject() -> None:
    good = (np.array([0, 1]), np.array([3]), np.array([2], np.int32))
    comparisons.assert_same_radius(Radius(*good), good)
    with pytest.raises(AssertionError, match="offsets"):
        comparisons.assert_same_radius(Radius(np.array([0, 2]), *good[1:]), good)
    with pytest.raises(AssertionError, match="distances"):
        comparisons.assert_same_radius(Radius(*good[:2], np.array([2], np.int64)), good)
    counts = (np.array([[1, 2]]), np.array([[0, 2]]))
    comparisons.assert_same_histogram(Histogram(*counts), counts)
    with pytest.raises(AssertionError, match="relevant"):
        comparisons.assert_same_histogram(Histogram(counts[0], counts[0]), counts)
    with pytest.raises(AssertionError, match="items"):
        comparisons.assert_same_histogram(Histogram(counts[0][:, ::-1], counts[1]), counts)


def test_ap_accepts_rounding_and_nan() -> None:
    comparisons.assert_same_ap(np.array([0.5 * (1 + 5e-13), np.nan, 0.0]), [0.5, np.nan, 0.0])


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([0.5 * (1 + 3e-12)], [0.5]),
        ([np.nan], [0.0]),
        ([0.0], [np.nan]),
        ([1e-300], [0.0]),
        ([0.5, 0.5], [0.5]),
        ([np.inf], [1.0]),
    ],
)
def test_ap_rejects(actual, expected) -> None:
    with pytest.raises(AssertionError, match="average_precision"):
        comparisons.assert_same_ap(np.array(actual, np.float64), expected)


def test_ap_rejects_float32_and_floats() -> None:
    with pytest.raises(AssertionError, match="dtype float32"):
        comparisons.assert_same_ap(np.array([0.5], np.float32), [0.5])
    with pytest.raises(AssertionError, match="not a numpy array"):
        comparisons.assert_same_ap([0.5], [0.5])


def test_loss_rule() -> None:
    exact = np.array([1.0, 2.0, 3.0])
    plain, unit = exact + np.array([0.0, 1e-6, 0.0]), 3e-7
    comparisons.assert_loss_error(exact + 2e-6, plain, exact, unit)
    comparisons.assert_loss_error(
        exact + 2e-7, exact, exact, unit
    )  # plain is right by luck: a unit is granted
    with pytest.raises(AssertionError, match="error"):
        comparisons.assert_loss_error(exact + 3e-6, plain, exact, unit)
    with pytest.raises(AssertionError, match=r"at \(2,\)"):
        comparisons.assert_loss_error(exact + np.array([0, 0, 1e-6]), exact, exact, unit)
    with pytest.raises(AssertionError, match="nan"):
        comparisons.assert_loss_error(np.array([1.0, np.nan, 3.0]), plain, exact, unit)
    with pytest.raises(AssertionError, match="shapes"):
        comparisons.assert_loss_error(exact[:2], plain, exact, unit)


def test_oracle_counts_by_hand() -> None:
    queries, database = np.array([[0b1011, 1]], np.uint8), np.array([[0b0110, 1], [0, 0]], np.uint8)
    assert oracles.counts(queries, database, "hamming").tolist() == [[3, 4]]
    assert oracles.counts(queries, database, "overlap").tolist() == [[2, 0]]


def test_oracle_expected_ap_by_hand() -> None:
    """The two hand-worked vectors of test_average_precision.py."""
    one = [(1, 1), (2, 1), (3, 1)]
    assert oracles.expected_ap(one, None, "retrieved") == Fraction(49, 60)
    assert len(oracles.tied_orders(one)) == 6  # 12 orders, two relevant items of a kind apart
    assert oracles.expected_ap(one, 4, "retrieved") == Fraction(97, 108)
    assert oracles.expected_ap(one, 4, "min") == oracles.expected_ap(one, 4, "relevant") == Fraction(25, 36)
    two = [(3, 1), (1, 1)]
    assert [oracles.expected_ap(two, 1, d) for d in ("retrieved", "min", "relevant")] == [
        Fraction(1, 3),
        Fraction(1, 3),
        Fraction(1, 6),
    ]
    assert oracles.expected_ap(two, None, "retrieved") == Fraction(5, 9)
    assert oracles.expected_relevant_in(one, 4) == Fraction(7, 3)


def test_oracle_loss_by_hand() -> None:
    """Two classes of 1 and 3 sub-classes, equal logits: p = 1/4 each, so the loss is log 4 times Σy."""
    logits = np.zeros((2, 4))
    np.testing.assert_allclose(exact_loss(logits, [0, 1], [0, 1, 4]).astype(float), np.log(4))
    np.testing.assert_allclose(
        exact_loss(logits, [0, 1], [0, 1, 4], 0.5).astype(float), [np.log(4) / 2, np.log(8)]
    )
    gradient = exact_gradient(logits, [0, 1], [0, 1, 4], 0.5).astype(float)
    np.testing.assert_allclose(gradient, [[-0.375, 0.125, 0.125, 0.125], [0.375, -0.125, -0.125, -0.125]])
