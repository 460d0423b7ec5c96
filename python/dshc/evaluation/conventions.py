"""The conventions of an evaluation: which of the many numbers called mAP is meant."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ..errors import one_of

__all__ = [
    "METRICS",
    "Conventions",
    "Denominator",
    "Empty",
    "Gains",
    "Score",
    "Ties",
    "check_cut",
    "metric_of",
    "name_of",
]

# Those of dshc_fast.retrieval_metric; the last two are cut at the number of relevant items.
METRICS = (
    "ndcg",
    "reciprocal_rank",
    "precision",
    "recall",
    "hit_rate",
    "r_precision",
    "average_precision_at_r",
)

_MAX_CUT = 2**63 - 1


class Ties(StrEnum):
    """Order of items at equal distance: the mean over all orders, by index, relevant items first, or last."""

    expected = "expected"
    index = "index"
    best = "best"
    worst = "worst"


class Denominator(StrEnum):
    """What AP@k is divided by: the relevant items among the k, min(k, all relevant), all relevant."""

    retrieved = "retrieved"
    min = "min"
    relevant = "relevant"


class Empty(StrEnum):
    """Queries with nothing relevant in the database: AP 0, left out of the mean, or an error."""

    zero = "zero"
    skip = "skip"
    error = "error"


class Gains(StrEnum):
    """What an item is worth to nDCG that shares s labels with the query: s, or 2**s - 1."""

    linear = "linear"
    exponential = "exponential"


class Score(StrEnum):
    """Ranking: XOR count ascending, or AND count descending."""

    hamming = "hamming"
    overlap = "overlap"


@dataclass(frozen=True)
class Conventions:
    """What an evaluation is asked for; docs/evaluation.md says what each choice means.

    Args:
        k: cut-off of the headline mAP, 1 or more; None: the whole database.
        ks: further cut-offs to report mAP at; one that comes twice counts once.
        ties: order of items at equal distance.
        denominator: what AP@k is divided by.
        score: how codes are ranked; None: as the codes' own file or model says (else ``hamming``).
        empty: what becomes of queries with nothing relevant in the database.
        metrics: further metrics to report, ``"ndcg@100"``, or ``"ndcg"`` over the whole database; one that comes twice
            counts once.
        gains: what shared labels are worth to nDCG.

    The choices may be given as a member or its name. They hold the member, which equals its name.

    Raises:
        ValueError, TypeError: a field that is out of range or of another type; the message names it.

    >>> print(Conventions(k=100, ties="worst"))
    mAP@100, ties=worst, denominator=retrieved, empty=zero
    """

    k: int | None = None
    ks: tuple[int, ...] = ()
    ties: Ties | str = Ties.expected
    denominator: Denominator | str = Denominator.retrieved
    score: Score | str | None = None
    empty: Empty | str = Empty.zero
    metrics: tuple[str, ...] = ()
    gains: Gains | str = Gains.linear

    def __post_init__(self) -> None:
        if isinstance(self.ks, str) or not isinstance(self.ks, Iterable):
            raise TypeError(f"ks must be a sequence of ints, got {type(self.ks).__name__}")
        cuts = tuple(dict.fromkeys(check_cut("ks", cut) for cut in self.ks))
        self._set("ks", cuts)
        if self.k is not None:
            self._set("k", check_cut("k", self.k))
        self._set("ties", _member("ties", self.ties, Ties))
        self._set("denominator", _member("denominator", self.denominator, Denominator))
        if self.score is not None:
            self._set("score", _member("score", self.score, Score))
        self._set("empty", _member("empty", self.empty, Empty))
        self._set("gains", _member("gains", self.gains, Gains))
        if isinstance(self.metrics, str) or not isinstance(self.metrics, Iterable):
            raise TypeError(f"metrics must be a sequence of names, got {type(self.metrics).__name__}")
        self._set("metrics", tuple(dict.fromkeys(_metric_name(*metric_of(name)) for name in self.metrics)))

    def __str__(self) -> str:
        """Every convention in one line: ``mAP@all, ties=expected, denominator=retrieved, empty=zero``."""
        score = [f"score={self.score}"] if self.score is not None else []
        choices = [f"ties={self.ties}", f"denominator={self.denominator}", *score, f"empty={self.empty}"]
        gains = [f"gains={self.gains}"] if self.uses_gains else []
        return ", ".join([*map(name_of, (self.k, *self.ks)), *self.metrics, *choices, *gains])

    @property
    def uses_gains(self) -> bool:
        """Whether a metric is asked for that asks what shared labels are worth."""
        return any(name.partition("@")[0] == "ndcg" for name in self.metrics)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the class is frozen, and this is still its construction


def name_of(k: int | None) -> str:
    """``mAP@all`` or ``mAP@100``."""
    return "mAP@all" if k is None else f"mAP@{k}"


def metric_of(name: object) -> tuple[str, int | None]:
    """Metric and cut-off of ``ndcg@100``, or of ``ndcg``, which has none."""
    if not isinstance(name, str):
        raise TypeError(f"metrics must hold names such as ndcg@100, got {type(name).__name__}")
    metric, at, cut = name.partition("@")
    if metric not in METRICS:
        raise one_of("metrics", metric, METRICS)
    if not at:
        return metric, None
    if metric in METRICS[-2:]:
        raise ValueError(f"metrics must name {metric} without a cut, which it has of its own, got {name!r}")
    if not (cut.isascii() and cut.isdigit()):
        raise ValueError(f"metrics must have a whole number behind the @, got {name!r}")
    return metric, check_cut("the cut of a metric", int(cut))


def _metric_name(metric: str, k: int | None) -> str:
    return metric if k is None else f"{metric}@{k}"


def check_cut(name: str, cut: object) -> int:
    """The cut-off of a ranking as an int; what is none is refused, ``name`` being what the message calls it."""
    try:
        number = None if isinstance(cut, bool) else operator.index(cut)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be an int of at least 1, got {type(cut).__name__}")
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    if number > _MAX_CUT:
        raise ValueError(f"{name} must be at most {_MAX_CUT}, got {number}")
    return number


def _member(name: str, value: object, choices: type[StrEnum]) -> StrEnum:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(choices)}, got {type(value).__name__}")
    try:
        return choices(value)
    except ValueError:
        raise one_of(name, value, map(str, choices)) from None
