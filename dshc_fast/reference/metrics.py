"""Twins of the metrics from one order of the database: histograms, average precision, curves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .ranking import allowed_matrix, hamming_distance, rank_keys


def relevance(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """bool (n_query, n_db): equal class ids, or at least one shared label of multi-hot rows."""
    if query_labels.dim() == 1:
        # As Python integers, which hold every id of every dtype.
        pairs = [[a == b for b in database_labels.tolist()] for a in query_labels.tolist()]
        return torch.tensor(pairs, dtype=torch.bool, device=query_labels.device).view(
            len(query_labels), len(database_labels)
        )
    return query_labels.double() @ database_labels.double().T > 0


def hamming_histogram(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    n_bits = 8 * queries.shape[1] if n_bits is None else n_bits
    counts = hamming_distance(queries, database, score=score).long()
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    relevant = mask & relevance(query_labels, database_labels)
    shape = (len(queries), n_bits + 1)
    items = torch.zeros(shape, dtype=torch.int64, device=queries.device).scatter_add_(1, counts, mask.long())
    return items, torch.zeros_like(items).scatter_add_(1, counts, relevant.long())


def _expected_group(items: int, relevant: int, before: int, relevant_before: int, taken: int) -> float:
    """Expected sum of precisions at the relevant items among the first `taken` of a tie (McSherry & Najork,
    2008)."""
    slope = (relevant - 1) / (items - 1) if items > 1 else 0.0
    total = math.fsum((relevant_before + 1 + t * slope) / (before + t + 1) for t in range(taken))
    return relevant / items * total


def average_precision_expected(items: list[int], relevant: list[int], k: int, denominator: str) -> float:
    total_relevant, before, relevant_before, precisions = sum(relevant), 0, 0, 0.0
    for n, p in zip(items, relevant, strict=True):
        if n == 0 or before >= k:
            continue
        taken = min(n, k - before)
        if taken < n and denominator == "retrieved":
            # The divisor depends on how many relevant items the cut lets in, which is hypergeometric.
            expected = 0.0
            for x in range(max(0, taken - (n - p)), min(p, taken) + 1):
                if relevant_before + x > 0:
                    chance = math.comb(p, x) * math.comb(n - p, taken - x) / math.comb(n, taken)
                    inside = _expected_group(taken, x, before, relevant_before, taken)
                    expected += chance * (precisions + inside) / (relevant_before + x)
            return expected
        precisions += _expected_group(n, p, before, relevant_before, taken)
        before, relevant_before = before + n, relevant_before + p
    return precisions / _divisor(relevant_before, total_relevant, k, denominator)


def _divisor(retrieved: int, total: int, k: int, denominator: str) -> int:
    divisor = {"retrieved": retrieved, "min": min(k, total), "relevant": total}[denominator]
    return max(divisor, 1)  # nothing retrieved: the sum of precisions is 0, and so is AP


def _average_precision_ordered(relevant_in_order: list[bool], k: int, denominator: str) -> float:
    hits, precisions = 0, []
    for rank, is_relevant in enumerate(relevant_in_order[:k], start=1):
        if is_relevant:
            hits += 1
            precisions.append(hits / rank)
    return math.fsum(precisions) / _divisor(hits, sum(relevant_in_order), k, denominator)


def average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    _, keys = rank_keys(queries, database, score)
    keys = keys + (8 * queries.shape[1] if score == "overlap" else 0)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    relevant = relevance(query_labels, database_labels) & mask
    result = []
    for query_keys, query_relevant, query_mask in zip(keys, relevant, mask, strict=True):
        key, hit = query_keys[query_mask].long(), query_relevant[query_mask]
        cut = len(key) if k is None else min(k, len(key))
        if not hit.any():
            result.append(math.nan)
        elif ties == "expected":
            width = int(key.max()) + 1
            result.append(
                average_precision_expected(
                    torch.bincount(key, minlength=width).tolist(),
                    torch.bincount(key[hit], minlength=width).tolist(),
                    cut,
                    denominator,
                )
            )
        else:
            # Inside a tie: by index, or relevant items first (best), or last (worst).
            inside_tie = {"index": 0, "best": (~hit).long(), "worst": hit.long()}[ties]
            order = (2 * key + inside_tie).argsort(stable=True)
            result.append(_average_precision_ordered(hit[order].tolist(), cut, denominator))
    return torch.tensor(result, dtype=torch.float64, device=queries.device)


def mean_average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    empty: str = "zero",
    **options,
) -> Tensor:
    precisions = average_precision(queries, database, query_labels, database_labels, **options)
    precisions = precisions.nan_to_num(nan=0.0) if empty == "zero" else precisions[~precisions.isnan()]
    return precisions.mean()


def retrieval_curves(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    *,
    ranks: list[int] | None = None,
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Tensor | None = None,
) -> tuple[Tensor, ...]:
    n_bits = 8 * queries.shape[1] if n_bits is None else n_bits
    if ranks is None:
        ranks = [rank for rank in (1, 5, 10, 50, 100, 500, 1000, 5000) if rank <= len(database)]
    counts = hamming_distance(queries, database, score=score)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    hits = relevance(query_labels, database_labels) & mask
    if empty == "skip":
        kept = hits.any(1)
        counts, mask, hits = counts[kept], mask[kept], hits[kept]
    all_relevant = hits.sum(1).double()

    def recall_of(found: Tensor) -> Tensor:
        return found / all_relevant.clamp(min=1)

    radius = range(n_bits + 1) if score == "hamming" else range(n_bits, -1, -1)
    columns = []
    for r in radius:
        ball = (counts <= r if score == "hamming" else counts >= r) & mask
        inside, found = ball.sum(1).double(), (ball & hits).sum(1).double()
        columns.append(
            [
                (found / inside.clamp(min=1)).mean(),
                recall_of(found).mean(),
                found.sum() / inside.sum().clamp(min=1) if len(counts) else math.nan,
                found.sum() / all_relevant.sum().clamp(min=1) if len(counts) else math.nan,
                (inside == 0).double().mean(),
            ]
        )
    precision, recall, precision_micro, recall_micro, empty_balls = torch.tensor(
        columns, dtype=torch.float64
    ).T

    # Expected over the orders inside a tie: an item's chance to be among the first k.
    keys = counts if score == "hamming" else -counts
    at_rank = []
    for k in ranks:
        found = torch.zeros(len(counts), dtype=torch.float64)
        for row, key in enumerate(keys.long()):
            before = torch.tensor([(key[mask[row]] < value).sum() for value in key])
            tied = torch.tensor([(key[mask[row]] == value).sum() for value in key])
            chance = ((k - before).double() / tied.clamp(min=1)).clamp(0, 1)
            found[row] = chance[hits[row]].sum()
        at_rank.append([(found / k).mean(), recall_of(found).mean()])
    precision_at_rank, recall_at_rank = torch.tensor(at_rank, dtype=torch.float64).reshape(-1, 2).T
    return (
        torch.tensor(list(radius), dtype=torch.float64),
        precision,
        recall,
        precision_micro,
        recall_micro,
        empty_balls,
        torch.tensor(ranks, dtype=torch.float64),
        precision_at_rank,
        recall_at_rank,
    )
