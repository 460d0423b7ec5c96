"""Answers of shards put together. (distance, place of the shard, row) orders all items, so that what is merged is the
answer of one process over all codes, to the bit; counts are added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["merge_radius", "merge_topk", "sum_histograms"]


def merge_topk(
    answers: Sequence[tuple[np.ndarray, np.ndarray]], k: int, score: str = "hamming"
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best of answers of several shards.

    Args:
        answers: of each shard, in their order, distances int32 and indices int64 ``(n_query, k_shard)``, sorted as
            :func:`dshc_fast.hamming_topk` sorts them and filled up as it does; indices count over all shards.
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
    index = np.concatenate([found for _, found in answers], axis=1)
    # Earlier shards stand first, so that a stable sort keeps the order of indices inside a tie.
    order = np.argsort(-distance if score == "overlap" else distance, axis=1, kind="stable")[:, :k]
    distance, index = np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)
    if (missing := k - distance.shape[1]) > 0:
        worst = -1 if score == "overlap" else np.iinfo(np.int32).max
        distance = np.pad(distance, ((0, 0), (0, missing)), constant_values=worst)
        index = np.pad(index, ((0, 0), (0, missing)), constant_values=-1)
    return distance, index


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
