"""What the command line may be asked for: conventions of an evaluation by name, limits. Nothing heavy in
here.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["MAX_THREADS", "Denominator", "Empty", "Score", "Ties"]

MAX_THREADS = 1024
"""More CPU threads than any machine; torch dies of numbers far beyond."""


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


class Score(StrEnum):
    """Ranking: XOR count ascending, or AND count descending."""

    hamming = "hamming"
    overlap = "overlap"
