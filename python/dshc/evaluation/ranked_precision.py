"""Average precision of scores in any order, exact under ties: one sort per query, vectorised over queries.

On the CPU a query none of whose relevant items ties with another kind is counted apart, without an order of all items:
its relevant items and the others are sorted as bare numbers, many times as fast, and every rule of ties
gives the same.

The definition is that of ``dshc_fast.average_precision`` (docs/contracts.md), which counts distances instead and so
is for codes only. ``expected`` is McSherry & Najork, ECIR 2008.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["average_precision"]


def average_precision(
    scores: Tensor, relevant: Tensor, cuts: Sequence[int | None], ties: str, denominator: str
) -> Tensor:
    """AP@k of each query at each cut-off, float64 ``(n_cuts, n_query)``, on the device of the scores.

    NaN where a query has nothing relevant; 0 where nothing relevant is inside the cut.

    Args:
        scores: floating ``(n_query, n_items)``, n_items >= 1, larger is better, no NaN; equal ones tie.
        relevant: bool ``(n_query, n_items)``.
        cuts: cut-off ranks, 1 or more; None, or beyond n_items: all.
        ties: ``"expected"`` | ``"index"`` | ``"best"`` | ``"worst"``.
        denominator: ``"retrieved"`` | ``"min"`` | ``"relevant"``.
    """
    if scores.device.type != "cpu":
        return _by_order(scores, relevant, cuts, ties, denominator)
    result = torch.empty(len(cuts), len(scores), dtype=torch.float64)
    tied = []
    for query, (of_query, right) in enumerate(zip(scores.numpy(), relevant.numpy(), strict=True)):
        ranks = _ranks(of_query, right)
        if ranks is None:
            tied.append(query)
        else:
            values = [_of_ranks(ranks, len(of_query), cut, denominator) for cut in cuts]
            result[:, query] = torch.tensor(values, dtype=torch.float64)
    if tied:
        result[:, tied] = _by_order(scores[tied], relevant[tied], cuts, ties, denominator)
    return result


def _ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray | None:
    """The ranks (from 1, falling) of the relevant items; None where one is tied with an item that is not."""
    hits, others = np.sort(scores[relevant]), np.sort(scores[~relevant])
    behind = np.searchsorted(others, hits, side="right")  # others that are not ahead
    there = behind > 0
    if (others[behind[there] - 1] == hits[there]).any():
        return None
    return np.arange(len(hits), 0, -1) + (len(others) - behind)


def _of_ranks(ranks: np.ndarray, n_items: int, cut: int | None, denominator: str) -> float:
    """AP@k of a query whose relevant items have these ranks."""
    total = len(ranks)
    if not total:
        return np.nan
    k = n_items if cut is None else min(cut, n_items)
    precision = np.arange(total, 0, -1) / ranks
    inside = ranks <= k
    divisor = {"retrieved": int(inside.sum()), "min": min(total, k), "relevant": total}[denominator]
    return float(precision[inside].sum() / max(divisor, 1))


def _by_order(
    scores: Tensor, relevant: Tensor, cuts: Sequence[int | None], ties: str, denominator: str
) -> Tensor:
    """AP of queries whose relevant items may tie with others."""
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    hit = relevant.gather(1, order)
    groups = _Ties(ordered, hit)
    if ties in ("best", "worst"):
        behind = hit if ties == "worst" else ~hit
        hit = hit.gather(1, (2 * groups.start + behind).argsort(dim=1, stable=True))
    precision = groups.expected() if ties == "expected" else _precision(hit)
    return torch.stack([_at(cut, precision, hit, groups, ties, denominator) for cut in cuts])


class _Ties:
    """The tie that each rank is in, int64 ``(n_query, n_items)`` each.

    ``start`` is its first rank (from 0), ``size`` its items, ``hits`` its relevant ones, ``before`` the relevant
    items ahead of it.
    """

    def __init__(self, ordered: Tensor, hit: Tensor) -> None:
        n = ordered.shape[1]
        rank = torch.arange(n, device=ordered.device)
        first = torch.ones_like(hit)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        last = torch.ones_like(hit)
        last[:, :-1] = first[:, 1:]
        self.start = torch.where(first, rank, 0).cummax(dim=1).values
        end = torch.where(last, rank, n - 1).flip(1).cummin(dim=1).values.flip(1)
        self.size = end - self.start + 1
        hits = hit.cumsum(dim=1)
        self.before = (hits - hit.long()).gather(1, self.start)
        self.hits = hits.gather(1, end) - self.before

    def expected(self) -> Tensor:
        """Of every rank, the chance that it is relevant times the precision expected there if it is."""
        place = torch.arange(self.start.shape[1], device=self.start.device)
        # Given a relevant item at a rank, the others of its tie fill the ranks before it evenly.
        others = (self.hits - 1).double() / (self.size - 1).clamp_min(1)
        ahead = self.before + 1 + (place - self.start) * others
        return self.hits.double() / self.size * ahead / (place + 1)


def _precision(hit: Tensor) -> Tensor:
    """Precision at every relevant rank, 0 at the others."""
    rank = torch.arange(1, hit.shape[1] + 1, device=hit.device)
    return torch.where(hit, hit.cumsum(dim=1).double() / rank, 0.0)


def _at(
    cut: int | None, precision: Tensor, hit: Tensor, groups: _Ties, ties: str, denominator: str
) -> Tensor:
    n = hit.shape[1]
    k = n if cut is None else min(cut, n)
    total, retrieved = hit.sum(dim=1), hit[:, :k].sum(dim=1)
    divisor = {"retrieved": retrieved, "min": total.clamp_max(k), "relevant": total}[denominator]
    result = precision[:, :k].sum(dim=1) / divisor.clamp_min(
        1
    )  # nothing retrieved: the sum is 0, and so is AP
    if ties == "expected" and denominator == "retrieved" and k < n:
        # The divisor depends on how many relevant items of a tie the cut lets in.
        for query in (groups.start[:, k] < k).nonzero()[:, 0].tolist():
            start = int(groups.start[query, k])
            size, hits, before = (int(t[query, k]) for t in (groups.size, groups.hits, groups.before))
            result[query] = _through_tie(
                size, hits, k - start, start, before, float(precision[query, :start].sum())
            )
    return torch.where(total == 0, torch.nan, result)


def _through_tie(size: int, hits: int, taken: int, start: int, before: int, precisions: float) -> float:
    """Expected AP of a cut through a tie that keeps its first ``taken`` of ``size`` items, ``hits`` of them relevant.

    ``start`` items and ``before`` relevant ones lie ahead of it, whose precisions add up to ``precisions``.
    """
    inside = np.arange(max(0, taken - (size - hits)), min(hits, taken) + 1)
    place = np.arange(taken)
    alone = ((before + 1) / (start + place + 1)).sum()
    others = (place / (start + place + 1)).sum() * (inside - 1) / max(taken - 1, 1)
    total = precisions + inside / taken * (alone + others)
    return float((_chances(size, hits, taken, inside) * total / np.maximum(before + inside, 1)).sum())


def _chances(size: int, hits: int, taken: int, inside: np.ndarray) -> np.ndarray:
    """Hypergeometric chances of ``inside`` relevant items among ``taken``; all possible counts, rising by one."""
    # By ratios from the likeliest count outwards: factorials overflow, and their logarithms round.
    x = inside[:-1].astype(np.float64)
    ratios = (hits - x) * (taken - x) / ((x + 1) * (size - hits - taken + x + 1))
    peak = int((ratios >= 1).sum())  # ratios fall
    upwards = np.cumprod(ratios[peak:])
    downwards = np.cumprod(1 / ratios[:peak][::-1])[::-1]
    chances = np.concatenate([downwards, [1.0], upwards])
    return chances / chances.sum()
