"""Conventions: what they take, what they refuse, how they print."""

from __future__ import annotations

import dataclasses
import doctest

import numpy as np
import pytest

import dshc.evaluation.conventions
from dshc.evaluation import Conventions, Denominator, Empty, Score, Ties


def test_the_defaults_print_themselves() -> None:
    assert str(Conventions()) == "mAP@all, ties=expected, denominator=retrieved, empty=zero"


def test_everything_asked_for_is_printed() -> None:
    asked = Conventions(k=5, ks=(10, 20), ties="worst", denominator="min", score="overlap", empty="skip")
    assert str(asked) == "mAP@5, mAP@10, mAP@20, ties=worst, denominator=min, score=overlap, empty=skip"


def test_names_and_members_are_the_same_choice() -> None:
    members = Conventions(
        ties=Ties.index, denominator=Denominator.relevant, score=Score.hamming, empty=Empty.error
    )
    names = Conventions(ties="index", denominator="relevant", score="hamming", empty="error")
    assert members == names and hash(members) == hash(names)
    assert isinstance(names.ties, Ties) and isinstance(names.score, Score)


def test_cuts_become_plain_ints_once_each() -> None:
    asked = Conventions(k=np.int64(3), ks=[7, np.int32(5), 7])
    assert asked.k == 3 and type(asked.k) is int
    assert asked.ks == (7, 5) and all(type(k) is int for k in asked.ks)


def test_replaced_conventions_are_checked_again() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got -3"):
        dataclasses.replace(Conventions(), k=-3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2**63}, ValueError, "k must be at most 9223372036854775807, got 9223372036854775808"),
        ({"k": 2.0}, TypeError, "k must be an int of at least 1, got float"),
        ({"k": True}, TypeError, "k must be an int of at least 1, got bool"),
        ({"ks": (5, -1)}, ValueError, "ks must be at least 1, got -1"),
        ({"ks": ("5",)}, TypeError, "ks must be an int of at least 1, got str"),
        ({"ks": 5}, TypeError, "ks must be a sequence of ints, got int"),
        ({"ks": "5"}, TypeError, "ks must be a sequence of ints, got str"),
        ({"ties": "random"}, ValueError, "ties must be one of expected, index, best, worst, got 'random'"),
        ({"ties": "wrost"}, ValueError, "did you mean 'worst'?"),
        ({"ties": None}, TypeError, "ties must be one of expected, index, best, worst, got NoneType"),
        ({"denominator": "R"}, ValueError, "denominator must be one of retrieved, min, relevant, got 'R'"),
        ({"score": "cosine"}, ValueError, "score must be one of hamming, overlap, got 'cosine'"),
        ({"empty": "drop"}, ValueError, "empty must be one of zero, skip, error, got 'drop'"),
        ({"gains": "square"}, ValueError, "gains must be one of linear, exponential, got 'square'"),
        ({"metrics": "ndcg"}, TypeError, "metrics must be a sequence of names, got str"),
        ({"metrics": (3,)}, TypeError, "metrics must hold names such as ndcg@100, got int"),
        (
            {"metrics": ("mrr",)},
            ValueError,
            "metrics must be one of ndcg, reciprocal_rank, precision, recall",
        ),
        ({"metrics": ("ndcg@",)}, ValueError, "metrics must have a whole number behind the @, got 'ndcg@'"),
        (
            {"metrics": ("ndcg@all",)},
            ValueError,
            "metrics must have a whole number behind the @, got 'ndcg@all'",
        ),
        ({"metrics": ("recall@0",)}, ValueError, "the cut of a metric must be at least 1, got 0"),
        ({"metrics": ("r_precision@5",)}, ValueError, "metrics must name r_precision without a cut"),
    ],
)
def test_wrong_conventions_are_named(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        Conventions(**options)
    assert words in str(raised.value)


def test_the_example_of_the_docstring_runs() -> None:
    found = doctest.testmod(dshc.evaluation.conventions)
    assert found.failed == 0 < found.attempted
