"""Twins of `retrieval_metric` and of the functions that are one of its metrics each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .metrics import average_precision_expected, relevance
from .ranking import allowed_matrix, rank_keys


def shared_labels(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """int64 (n_query, n_db): how many labels two items share; equal class ids are one."""
    if query_labels.dim() == 1:
        return relevance(query_labels, database_labels).long()
    return (query_labels.double() @ database_labels.double().T).long()


def retrieval_metric(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    metric: str,
    *,
    k: int | None = None,
    ties: str = "expected",
    gains: str = "linear",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    _, keys = rank_keys(queries, database, score)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    shared = shared_labels(query_labels, database_labels)
    result = []
    for query_keys, query_shared, query_mask in zip(keys, shared, mask, strict=True):
        key, common = query_keys[query_mask], query_shared[query_mask]
        if not common.any():
            result.append(math.nan)
            continue
        # By key; inside a tie by index, or those that share most first (best), or last (worst).
        inside_tie = {"expected": 0, "index": 0, "best": -common, "worst": common}[ties]
        order = ((common.max() + 1) * 2 * key + inside_tie).argsort(stable=True)
        sizes = key.unique(return_counts=True)[1].tolist() if ties == "expected" else [1] * len(key)
        groups = [group.tolist() for group in common[order].split(sizes)]
        result.append(_value(groups, metric, k, gains))
    return torch.tensor(result, dtype=torch.float64, device=queries.device)


def _value(groups: list[list[int]], metric: str, k: int | None, gains: str) -> float:
    """The mean of a metric over all orders inside the groups, which hold how many labels each item shares."""
    n_items, n_relevant = sum(map(len, groups)), sum(shared > 0 for group in groups for shared in group)
    at_r = metric in ("r_precision", "average_precision_at_r")
    cut = n_relevant if at_r else n_items if k is None else min(k, n_items)
    if metric == "ndcg":
        return _ndcg(groups, cut, gains)
    counts = [(len(group), sum(shared > 0 for shared in group)) for group in groups]
    if metric == "average_precision_at_r":
        items, relevant = zip(*counts, strict=True)
        return average_precision_expected(list(items), list(relevant), cut, "relevant")
    if metric in ("reciprocal_rank", "hit_rate"):
        return _of_first(counts, cut, metric)
    found, before = [], 0
    for n, p in counts:
        found.append(p * max(0, min(n, cut - before)) / n)
        before += n
    divisor = (n_items if k is None else k) if metric == "precision" else n_relevant
    return math.fsum(found) / divisor


def _ndcg(groups: list[list[int]], cut: int, gains: str) -> float:
    def gain(shared: int) -> float:
        return float(shared if gains == "linear" else 2**shared - 1)

    def discounts(first: int, end: int) -> float:
        return math.fsum(1 / math.log2(rank + 1) for rank in range(first + 1, min(end, cut) + 1))

    found, before = [], 0
    for group in groups:
        found.append(math.fsum(map(gain, group)) / len(group) * discounts(before, before + len(group)))
        before += len(group)
    best = sorted((gain(shared) for group in groups for shared in group), reverse=True)
    return math.fsum(found) / math.fsum(value * discounts(rank, rank + 1) for rank, value in enumerate(best))


def _of_first(counts: list[tuple[int, int]], cut: int, metric: str) -> float:
    """Of the first relevant item, which is in the first group that has one."""
    before = 0
    for n, p in counts:
        if p > 0:
            break
        before += n
    inside = max(0, min(n, cut - before))
    if metric == "hit_rate":
        return 1 - math.comb(n - p, inside) / math.comb(n, inside)
    places = range(1, min(inside, n - p + 1) + 1)  # of the first relevant item in its group
    return math.fsum(math.comb(n - place, p - 1) / math.comb(n, p) / (before + place) for place in places)


def _twin(metric: str) -> Callable[..., Tensor]:
    def twin(
        queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor, **options: Any
    ) -> Tensor:
        return retrieval_metric(queries, database, query_labels, database_labels, metric, **options)

    return twin


ndcg = _twin("ndcg")
reciprocal_rank = _twin("reciprocal_rank")
precision = _twin("precision")
recall = _twin("recall")
hit_rate = _twin("hit_rate")
r_precision = _twin("r_precision")
average_precision_at_r = _twin("average_precision_at_r")
