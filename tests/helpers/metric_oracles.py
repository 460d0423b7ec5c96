"""Retrieval metrics by their definitions: of one list in rank order, and as the mean over all orders inside ties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import oracles

METRICS = (
    "ndcg",
    "reciprocal_rank",
    "precision",
    "recall",
    "hit_rate",
    "r_precision",
    "average_precision_at_r",
)
AT_R = ("r_precision", "average_precision_at_r")


def of_ranking(shared: list[int], metric: str, k: int | None = None, gains: str = "linear") -> float:
    """`shared`: how many labels each item shares with the query, in rank order; 0: it is not relevant."""
    hits = [s > 0 for s in shared]
    n_relevant = sum(hits)
    cut = n_relevant if metric in AT_R else len(shared) if k is None else min(k, len(shared))
    inside = hits[:cut]
    if metric == "ndcg":
        values = [s if gains == "linear" else 2**s - 1 for s in shared]
        return _dcg(values[:cut]) / _dcg(sorted(values, reverse=True)[:cut])
    if metric == "reciprocal_rank":
        return 1 / (inside.index(True) + 1) if any(inside) else 0.0
    if metric == "precision":
        return sum(inside) / (len(shared) if k is None else k)
    if metric == "hit_rate":
        return float(any(inside))
    if metric == "average_precision_at_r":
        precisions = (sum(hits[: rank + 1]) / (rank + 1) for rank in range(cut) if hits[rank])
        return math.fsum(precisions) / n_relevant
    return sum(inside) / n_relevant  # recall, r_precision


def _dcg(values: list[float]) -> float:
    return math.fsum(value / math.log2(rank + 1) for rank, value in enumerate(values, start=1))


def shared_labels(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    if query_labels.ndim == 1:
        return oracles.relevance(query_labels, database_labels).astype(np.int64)
    return (query_labels.astype(np.float64) @ database_labels.astype(np.float64).T).astype(np.int64)


def expected(groups: list[list[int]], metric: str, k: int | None, gains: str) -> float:
    """The mean over all orders inside the groups, by trying every one."""
    orders = [sorted(set(itertools.permutations(group))) for group in groups]
    values = [
        of_ranking([s for part in parts for s in part], metric, k, gains)
        for parts in itertools.product(*orders)
    ]
    return math.fsum(values) / len(values)


def retrieval_metric(
    queries,
    database,
    query_labels,
    database_labels,
    metric: str,
    *,
    k=None,
    ties="expected",
    gains="linear",
    score="hamming",
    allowed=None,
) -> np.ndarray:
    """float64 `(n_query,)`; ties `expected` by brute force, so only for small ties."""
    values = oracles.counts(queries, database, score)
    keys, shared = oracles.sort_keys(values, score), shared_labels(query_labels, database_labels)
    may = oracles.allowed_matrix(allowed, *values.shape)
    out = []
    for q in range(len(queries)):
        key, common = keys[q][may[q]], shared[q][may[q]]
        if not common.any():
            out.append(math.nan)
        elif ties == "expected":
            groups = [common[key == value].tolist() for value in np.unique(key)]
            out.append(expected(groups, metric, k, gains))
        else:
            second = {"index": np.zeros_like(common), "best": -common, "worst": common}[ties]
            order = np.lexsort((np.arange(len(key)), second, key))
            out.append(of_ranking(common[order].tolist(), metric, k, gains))
    return np.array(out, dtype=np.float64)
