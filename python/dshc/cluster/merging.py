"""Answers of shards put together. (distance, place of the shard, row) orders all items, so that what is merged is the
answer of one process over all codes, to the bit, in whatever order and groups; counts are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

__all__ = ["Merge", "Together", "merge_radius", "merge_topk", "sum_histograms"]

# Distance and index as one number, which orders as the pair does: codes have 4,096 bits at most, and no more than 2**50
# items lie anywhere.
_INDEX_BITS = 50
_FILL = (1 << 13) - 1
"""The distance of what fills up, behind all others."""
_SELECTED = 8
"""Of so many times k the k best are chosen before they are sorted."""


def merge_topk(
    answers: Sequence[tuple[np.ndarray, np.ndarray]], k: int, score: str = "hamming"
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best of answers of several shards.

    Args:
        answers: of some shards each, in any order, distances int32 and indices int64 ``(n_query, k_shard)``, filled up
            as :func:`dshc_fast.hamming_topk` does it; indices count over all shards.
        k: items per query of the merged answer.
        score: what ranks, ``"hamming"`` or ``"overlap"``.

    Returns:
        Distances int32 and indices int64 ``(n_query, k)``, filled up where the shards have fewer.

    >>> import numpy as np
    >>> one = np.array([[1, 3]], np.int32), np.array([[1, 0]])
    >>> two = np.array([[1, 2]], np.int32), np.array([[2, 3]])
    >>> merge_topk([one, two], 3)
    (array([[1, 1, 2]], dtype=int32), array([[1, 2, 3]]))
    """
    distance = np.concatenate([found for found, _ in answers], axis=1)
    key = distance.astype(np.int64)
    if score == "overlap":  # the largest comes first
        np.subtract(_FILL - 1, key, out=key)
    np.minimum(key, _FILL, out=key)
    key <<= _INDEX_BITS
    key += np.concatenate([index for _, index in answers], axis=1) + 1
    if key.shape[1] >= _SELECTED * k:
        key = np.partition(key, k - 1, axis=1)[:, :k]
    key = np.sort(key, axis=1)[:, :k]
    if (missing := k - key.shape[1]) > 0:
        key = np.pad(key, ((0, 0), (0, missing)), constant_values=_FILL << _INDEX_BITS)
    rank, index = key >> _INDEX_BITS, (key & ((1 << _INDEX_BITS) - 1)) - 1
    if score == "overlap":
        return (_FILL - 1 - rank).astype(np.int32), index
    return np.where(rank == _FILL, np.iinfo(np.int32).max, rank).astype(np.int32), index


def merge_radius(
    answers: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], score: str = "hamming"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All that several shards have within a radius: offsets int64 ``(n_query + 1,)``, indices int64, distances int32.

    ``answers``: the same of each shard, as :func:`dshc_fast.hamming_radius` gives them; indices count over all shards.
    """
    n_query = len(answers[0][0]) - 1
    row = np.concatenate([np.repeat(np.arange(n_query), np.diff(offsets)) for offsets, _, _ in answers])
    index = np.concatenate([found for _, found, _ in answers])
    distance = np.concatenate([found for _, _, found in answers])
    order = np.lexsort((index, -distance if score == "overlap" else distance, row))
    offsets = np.zeros(n_query + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=n_query), out=offsets[1:])
    return offsets, index[order], distance[order]


def sum_histograms(answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Items and relevant items at each distance, int64 ``(n_query, n_bits + 1)``, over all shards."""
    items, relevant = answers[0]
    for more, more_relevant in answers[1:]:
        items, relevant = items + more, relevant + more_relevant
    return items, relevant


class Together(NamedTuple):
    """The answer of several shards, put together by who holds them."""

    places: tuple[int, ...]
    answer: Any


@dataclass(frozen=True)
class Merge:
    """How answers of shards are put together, by who holds some of them and by who asked.

    ``method``: the question, ``"topk"``, ``"radius"`` or ``"histogram"``; ``starts``: by the place of a shard, the
    number of items before it; ``k``, ``score``: as of :func:`merge_topk`.
    """

    method: str
    starts: Mapping[int, int]
    k: int = 0
    score: str = "hamming"

    def of(self, places: Sequence[int]) -> Self:
        """The same for some shards alone, to be sent to who holds them."""
        return replace(self, starts={place: self.starts[place] for place in places})

    def lifted(self, place: int, answer: Any) -> Any:
        """The answer of a shard, with indices that count over all shards."""
        start = self.starts[place]
        if self.method == "topk":
            distances, rows = answer
            return distances, np.where(rows >= 0, rows + start, -1)
        if self.method == "radius":
            offsets, rows, distances = answer
            return offsets, rows + start, distances
        return answer

    def joined(self, answers: Sequence[Any]) -> Any:
        """One answer of several that are lifted, or joined already."""
        if self.method == "topk":
            return merge_topk(answers, self.k, self.score)
        if self.method == "radius":
            return merge_radius(answers, self.score)
        return sum_histograms(answers)
