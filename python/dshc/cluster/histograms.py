"""Average precision and curves of merged histograms, in numpy.

The histograms of shards add up to that of one database, and a histogram is all that these numbers read: they equal
those of :func:`dshc_fast.average_precision` and :func:`dshc_fast.retrieval_curves` but for rounding. The closed forms
are those of csrc/common/average_precision.h, which has their derivation: the order inside ties is uniformly random
(McSherry & Najork, ECIR 2008), and sums of reciprocals are differences of the digamma function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import dshc_fast

from ..errors import one_of
from ..evaluation import check_cut

__all__ = ["average_precision_of", "curves_of", "usual_ranks"]

_DIRECT = 32
"""Up to here reciprocals were added one by one; behind it the dropped term of the series is below 1e-16."""
_SUMS = np.array(
    [
        [
            [math.fsum((t - 1) ** power / (n + t) for t in range(1, m + 1)) for m in range(_DIRECT + 1)]
            for n in range(_DIRECT + 1)
        ]
        for power in (0, 1)
    ]
)
"""s0 and s1 of few items behind few: ``[0 or 1, N, m]``."""
_NEGLIGIBLE = 1e-40
_RANKS = (1, 5, 10, 50, 100, 500, 1000, 5000)
TIES = ("expected", "best", "worst")
DENOMINATORS = ("retrieved", "min", "relevant")


def average_precision_of(
    items: np.ndarray,
    relevant: np.ndarray,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
) -> np.ndarray:
    """Average precision of each query from its histograms, float64 ``(n_query,)``; NaN where nothing is relevant.

    Args:
        items, relevant: int64 ``(n_query, n_bits + 1)``, as :class:`dshc_fast.HammingHistogram` has them.
        k, denominator, score: as in :func:`dshc_fast.average_precision`.
        ties: ``"expected"``, ``"best"`` or ``"worst"``; the order by index is not in a histogram.

    Raises:
        InputError, ValueError, TypeError: another rule for ties, another denominator, a k below 1.

    >>> import numpy as np
    >>> average_precision_of(np.array([[1, 2, 3]]), np.array([[1, 1, 1]])).round(6)
    array([0.816667])
    """
    for name, value, known in (("ties", str(ties), TIES), ("denominator", str(denominator), DENOMINATORS)):
        if value not in known:
            raise one_of(f"{name} of histograms", value, known)
    if k is not None:
        k = check_cut("k", k)
    n, p = _best_first(items, relevant, score)
    before, found = np.cumsum(n, axis=1) - n, np.cumsum(p, axis=1) - p
    all_items, all_relevant = n.sum(axis=1), p.sum(axis=1)
    cut = all_items if k is None else np.minimum(k, all_items)
    inside = np.clip(cut[:, None] - before, 0, n)  # of each tie, how many items are within the cut
    counted = (inside > 0) & (p > 0)
    # A tie that the cut goes through, where the divisor depends on which of its items are let in.
    split = counted & (inside < n) & ((ties == "expected") & (denominator == "retrieved"))
    rows, columns = np.nonzero(counted & ~split)
    at = (rows, columns)
    if ties == "expected":
        taken = p[at]
        slope = np.where(n[at] > 1, (p[at] - 1) / np.maximum(n[at] - 1, 1), 0.0)
        s0, s1 = _reciprocal_sums(before[at], inside[at])
        terms = p[at] / n[at] * ((found[at] + 1) * s0 + slope * s1)
    else:  # one run of relevant items: at the start of the tie, or at its end
        start = np.zeros_like(n[at]) if ties == "best" else n[at] - p[at]
        taken = np.clip(inside[at] - start, 0, p[at])
        s0, s1 = _reciprocal_sums(before[at] + start, taken)
        terms = (found[at] + 1) * s0 + s1
    total = np.bincount(rows, terms, minlength=len(n))
    retrieved = np.bincount(rows, taken, minlength=len(n))
    divisor = {
        "retrieved": retrieved,
        "min": np.minimum(cut, all_relevant),
        "relevant": all_relevant,
    }[str(denominator)]
    answer = np.divide(total, divisor, out=np.zeros(len(n)), where=divisor > 0)
    for row, column in zip(*np.nonzero(split), strict=True):
        one = row, column
        answer[row] = _expected_at_cut(
            total[row], *(int(part[one]) for part in (n, p, before, found, inside))
        )
    answer[all_relevant == 0] = np.nan
    return answer


def curves_of(
    items: np.ndarray,
    relevant: np.ndarray,
    *,
    ranks: Sequence[int],
    score: str = "hamming",
    empty: str = "zero",
) -> dshc_fast.RetrievalCurves:
    """What :func:`dshc_fast.retrieval_curves` gives, from histograms; ``empty`` is ``"zero"`` or ``"skip"``."""
    n, p = _best_first(items, relevant, score)
    radius = np.arange(n.shape[1], dtype=np.float64)
    if score == "overlap":
        radius = radius[::-1].copy()
    if empty == "skip":
        keep = p.sum(axis=1) > 0
        n, p = n[keep], p[keep]
    inside, found = n.cumsum(axis=1), p.cumsum(axis=1)
    all_relevant = p.sum(axis=1)[:, None]
    some = np.maximum(all_relevant, 1)
    share = [np.clip((rank - (inside - n)) / np.maximum(n, 1), 0, 1) for rank in ranks]
    at_rank = np.stack([(p * part).sum(axis=1) for part in share], axis=1) if ranks else np.zeros((len(n), 0))
    ranks = np.asarray(ranks, np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)

    def pooled(divisor: np.ndarray) -> np.ndarray:
        if not len(n):
            return np.full(n.shape[1], np.nan)
        return found.sum(axis=0) / np.maximum(divisor.sum(axis=0), 1)

    return dshc_fast.RetrievalCurves(
        radius,
        mean(found / np.maximum(inside, 1)),
        mean(found / some),
        pooled(inside),
        pooled(np.broadcast_to(all_relevant, found.shape)),
        mean((inside == 0).astype(np.float64)),
        ranks,
        mean(at_rank / ranks),
        mean(at_rank / some),
    )


def usual_ranks(n_items: int) -> tuple[int, ...]:
    """The ranks that :func:`dshc_fast.retrieval_curves` has by default."""
    return tuple(rank for rank in _RANKS if rank <= n_items)


def _best_first(items: np.ndarray, relevant: np.ndarray, score: str) -> tuple[np.ndarray, np.ndarray]:
    return (items[:, ::-1], relevant[:, ::-1]) if score == "overlap" else (items, relevant)


def _reciprocal_sums(before: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s0 = sum of 1 / (N + t) and s1 = sum of (t - 1) / (N + t) over t = 1..m, for each N of ``before``."""
    n, m = before.astype(np.int64), m.astype(np.int64)
    direct = np.clip(_DIRECT - n, 0, m)
    low = np.minimum(n, _DIRECT)
    s0, s1 = (sums[low, direct] for sums in _SUMS)
    rest = m - direct
    many = rest > 0
    x = n[many] + direct[many] + 0.5
    more = rest[many].astype(np.float64)
    y = x + more
    a, b = 1 / (x * x), 1 / (y * y)
    series = (-more * (x + y) * a * b) * (
        1 / 24
        + (a + b) * (-7 / 960)
        + (a * a + a * b + b * b) * (31 / 8064)
        + (a + b) * (a * a + b * b) * (-127 / 30720)
    )
    log, without = _log_ratio(x, more)
    further = log + series
    s0[many] += further
    s1[many] += without - 0.5 * log - (x + 0.5) * series + direct[many] * further
    return s0, s1


def _log_ratio(x: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log(y / x) and m - x log(y / x) for y = x + m > x > 0, so that nothing cancels."""
    y = x + m
    log = np.log(y / x)
    rest = m - x * log
    # log(y / x) = 2 artanh(z) = 2 (z + z^3 / 3 + ...), and m - 2 x z = m z.
    small = m <= 0.5 * x
    z = m[small] / (x + y)[small]
    w = z * z
    tail = np.full_like(z, 1 / 23)
    for odd in range(21, 1, -2):
        tail = 1 / odd + w * tail
    tail *= 2 * z * w
    log[small] = 2 * z + tail
    rest[small] = m[small] * z - x[small] * tail
    return log, rest


def _expected_at_cut(total: float, n: int, p: int, before: int, found: int, m: int) -> float:
    """The mean of (S + what x relevant items add) / (P + x) over x, which is hypergeometric: m of n items, p relevant.

    Probabilities are built outwards from the mode by ratios, and normalised by their own sum.
    """
    low, high = max(0, m - (n - p)), min(p, m)
    mode = min(max(int((m + 1.0) * (p + 1.0) / (n + 2.0)), low), high)
    reach = 100 + int(20 * math.sqrt(mode + 1.0))
    up = np.arange(mode, min(high, mode + reach), dtype=np.float64)
    down = np.arange(mode - 1, max(low, mode - reach) - 1, -1, dtype=np.float64)

    def ratio(x: np.ndarray) -> np.ndarray:
        return ((p - x) * (m - x)) / ((x + 1) * (n - p - m + x + 1))

    weights = np.concatenate([np.cumprod(1 / ratio(down))[::-1], [1.0], np.cumprod(ratio(up))])
    x = np.concatenate([down[::-1], [mode], up + 1])
    kept = weights > _NEGLIGIBLE
    x, weights = x[kept], weights[kept]
    (s0,), (s1,) = _reciprocal_sums(np.array([before]), np.array([m]))
    slope = (x - 1) / (m - 1) if m > 1 else np.zeros_like(x)
    adds = x / m * ((found + 1) * s0 + slope * s1)
    values = np.divide(total + adds, found + x, out=np.zeros_like(x), where=found + x > 0)
    return float((weights * values).sum() / weights.sum())
