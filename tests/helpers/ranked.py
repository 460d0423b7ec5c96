"""Codes with prescribed distances, and expected AP of huge ties in 50-digit decimals."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np


def codes_at(values, score: str = "hamming", n_bytes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """One query and a database whose distances to it (or overlaps with it) are `values`."""
    values = np.asarray(values)
    database = np.packbits(np.arange(8 * n_bytes)[None] < values[:, None], axis=1, bitorder="little")
    query = np.full((1, n_bytes), 0 if score == "hamming" else 255, np.uint8)
    return query, database.reshape(len(values), n_bytes)


def ranked_problem(values, hits, score: str = "hamming", n_bytes: int = 1) -> tuple[np.ndarray, ...]:
    """(queries, database, query_labels, database_labels) with the values and relevance given."""
    return *codes_at(values, score, n_bytes), np.array([1]), np.asarray(hits, dtype=np.int64)


def _harmonic(n_before: int, n: int) -> tuple[Decimal, Decimal]:
    """Σ 1/(N+t) and Σ (t-1)/(N+t) for t = 1..n."""
    first = sum((Decimal(1) / (n_before + t) for t in range(1, n + 1)), Decimal(0))
    return first, n - (n_before + 1) * first


def _tie(n: int, p: int, shown: int, p_before: int, sums: tuple[Decimal, Decimal]) -> Decimal:
    """Expected Σ P(t)·r_t over the first `shown` ranks of a tie of n items, p of them relevant."""
    slope = Decimal(p - 1) / (n - 1) if n > 1 else Decimal(0)
    return Decimal(p) / n * ((p_before + 1) * sums[0] + slope * sums[1]) if shown else Decimal(0)


def expected_ap_decimal(groups, k: int | None, denominator: str) -> float:
    """AP@k, ties expected, of (n items, n relevant) near to far: closed forms (McSherry & Najork 2008)."""
    with localcontext() as context:
        context.prec = 50
        total = sum(p for _, p in groups)
        k = sum(n for n, _ in groups) if k is None else min(k, sum(n for n, _ in groups))
        if total == 0:
            return float("nan")
        score, n_before, p_before = Decimal(0), 0, 0
        for n, p in groups:
            shown = min(n, k - n_before)
            if shown <= 0:
                break
            sums = _harmonic(n_before, shown)
            if shown < n and denominator == "retrieved":
                return float(_split_retrieved(n, p, shown, p_before, score, sums))
            score += _tie(n, p, shown, p_before, sums)
            n_before, p_before = n_before + shown, p_before + p
        below = {"retrieved": p_before, "min": min(k, total), "relevant": total}[denominator]
        return float(score / below) if below else 0.0


def _split_retrieved(n: int, p: int, m: int, p_before: int, before: Decimal, sums) -> Decimal:
    """The cut splits the tie: condition on x of its p relevant items being among the first m."""
    low, high = max(0, m - (n - p)), min(p, m)
    weight, weights, mean = Decimal(1), Decimal(0), Decimal(0)
    for x in range(low, high + 1):
        if p_before + x:
            mean += weight * (before + _tie(m, x, m, p_before, sums)) / (p_before + x)
        weights += weight
        weight = weight * (p - x) * (m - x) / ((x + 1) * (n - p - m + x + 1)) if x < high else weight
    return mean / weights
