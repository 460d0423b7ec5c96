"""Search in the parts of an index: each is ranked by itself, and the answers are merged.

Items are known by their position, the number of the row counted over all parts. (distance, position) orders all items,
so what is merged equals the answer of one array, whatever the parts, and however much of them fits into memory.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import dshc_fast
from dshc_fast import HammingDatabase

from .manifest import PartFile
from .parts import OpenPart

__all__ = ["PartSearch", "default_memory", "nearest_variants", "within_of_variants"]

_CHUNK = 256 << 20
"""Bytes of codes that are searched at a time where they are not held in memory."""
_PAIRS = 1 << 22
"""Most rows of an answer that are merged at a time."""
_SMALL = 1 << 16
"""Parts of fewer items that lie side by side are searched as one array."""


def default_memory() -> int:
    """Bytes of codes that are held prepared by default: a quarter of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


class PartSearch:
    """Ranks the items of ``parts``; what it prepares of a part it hands on to the next state of the index."""

    def __init__(
        self,
        parts: Sequence[OpenPart],
        score: str,
        *,
        memory: int,
        device: str = "cpu",
        tables: bool = False,
        clusters: bool = False,
        before: PartSearch | None = None,
    ) -> None:
        self.parts, self.score, self._memory, self._device = parts, score, memory, device
        self.starts = np.cumsum([0, *(part.part.n_items for part in parts)])
        serves = score == "hamming" and device == "cpu"
        self._tables, self._clusters = tables and serves, clusters and serves
        self._runs = _runs([part.part.n_items for part in parts])
        names = {self._names(run) for run in self._runs}
        known = {} if before is None else before._prepared
        self._prepared = {run: kept for run, kept in known.items() if run in names}
        self._searched = set() if before is None else before._searched & names

    def topk(
        self, queries: np.ndarray, k: int, masks: Sequence[np.ndarray | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distances int32 and positions int64 ``(n_query, k)`` of the best; filled up as ``hamming_topk`` does it.

        ``masks``: for each part which of its rows may be answered, bool ``(n,)``; None: all.
        """
        worst = -1 if self.score == "overlap" else np.iinfo(np.int32).max

        def rank(asked: Any, database: Any, k: int, allowed: Any) -> Any:
            return dshc_fast.hamming_topk(asked, database, k, score=self.score, allowed=allowed)

        return self._ranked(queries, k, masks, rank, np.int32(worst))

    def asymmetric(
        self, outputs: np.ndarray, k: int, masks: Sequence[np.ndarray | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of real-valued outputs, by ``asymmetric_topk``: distances float32, whose sums have one order."""

        def rank(asked: Any, database: Any, k: int, allowed: Any) -> Any:
            return dshc_fast.asymmetric_topk(asked, database, k, allowed=allowed)

        return self._ranked(outputs, k, masks, rank, np.float32(np.inf))

    def _ranked(
        self,
        queries: np.ndarray,
        k: int,
        masks: Sequence[np.ndarray | None],
        rank: Callable[..., Any],
        worst: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        step = max(1, _PAIRS // k)
        found = [
            self._ranked_at_once(queries[start : start + step], k, masks, rank, worst)
            for start in range(0, max(1, len(queries)), step)
        ]
        if len(found) == 1:
            return found[0]
        return np.concatenate([d for d, _ in found]), np.concatenate([p for _, p in found])

    def _ranked_at_once(
        self,
        queries: np.ndarray,
        k: int,
        masks: Sequence[np.ndarray | None],
        rank: Callable[..., Any],
        worst: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        distances = [np.full((len(queries), 0), worst)]
        positions = [np.full((len(queries), 0), -1, np.int64)]
        asked = self._on_device(queries)
        for start, n, database, allowed in self._databases(masks):
            answer = rank(asked, database, min(k, n), self._on_device(allowed))
            indices = _as_numpy(answer.indices)
            distances.append(_as_numpy(answer.distances))
            positions.append(np.where(indices >= 0, indices + start, -1))
            if sum(part.shape[1] for part in distances) > 8 * k:
                distances, positions = ([kept] for kept in self._best(distances, positions, k))
        found, places = self._best(distances, positions, k)
        if (missing := k - found.shape[1]) > 0:
            found = np.pad(found, ((0, 0), (0, missing)), constant_values=worst)
            places = np.pad(places, ((0, 0), (0, missing)), constant_values=-1)
        return found, places

    def _best(
        self, distances: Sequence[np.ndarray], positions: Sequence[np.ndarray], k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best of sorted answers that follow each other; one alone is sorted already."""
        several = [i for i, part in enumerate(distances) if part.shape[1]]
        if len(several) <= 1:
            i = several[0] if several else 0
            return distances[i][:, :k], positions[i][:, :k]
        distance, position = np.concatenate(distances, axis=1), np.concatenate(positions, axis=1)
        # Earlier parts stand first, so that a stable sort keeps the order of positions inside a tie.
        if distance.dtype == np.float32:  # an item may be as far as what fills up: infinitely
            order = np.lexsort((position < 0, distance), axis=1)[:, :k]
        else:
            key = -distance if self.score == "overlap" else distance
            order = np.argsort(key, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(distance, order, axis=1), np.take_along_axis(position, order, axis=1)

    def radius(
        self, queries: np.ndarray, radius: int, masks: Sequence[np.ndarray | None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets int64 ``(n_query + 1,)``, distances int32 and positions int64 of all within the radius."""
        rows: list[np.ndarray] = [np.empty(0, np.int64)]
        distances, positions = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        asked = self._on_device(queries)
        for start, _, database, allowed in self._databases(masks):
            answer = dshc_fast.hamming_radius(
                asked, database, radius, score=self.score, allowed=self._on_device(allowed)
            )
            rows.append(np.repeat(np.arange(len(queries)), np.diff(_as_numpy(answer.offsets))))
            distances.append(_as_numpy(answer.distances))
            positions.append(_as_numpy(answer.indices) + start)
        row, distance, position = map(np.concatenate, (rows, distances, positions))
        order = np.lexsort((position, -distance if self.score == "overlap" else distance, row))
        offsets = np.zeros(len(queries) + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=len(queries)), out=offsets[1:])
        return offsets, distance[order], position[order]

    def rows_of(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, OpenPart, np.ndarray]]:
        """For each part that some positions lie in: where they stand in ``positions``, the part, and their rows."""
        number = np.searchsorted(self.starts, positions, side="right") - 1
        for i in np.unique(number[positions >= 0]).tolist():
            places = np.flatnonzero((number == i) & (positions >= 0))
            yield places, self.parts[i], positions[places] - self.starts[i]

    def _databases(
        self, masks: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[int, int, Any, np.ndarray | None]]:
        """Position of the first row, number of rows, codes, and mask of all that is searched, in order."""
        for run in self._runs:
            mask = _joined(masks[run], self.parts[run])
            if mask is not None and not mask.any():
                continue
            if (prepared := self._prepare(run)) is not None:
                yield int(self.starts[run.start]), len(prepared), prepared, mask
                continue
            before = 0
            for part, start in zip(self.parts[run], self.starts[run].tolist(), strict=True):
                codes = part.arrays["codes"]
                step = max(1, _CHUNK // codes.shape[1])
                for first in range(0, len(codes), step):
                    chunk = codes[first : first + step]
                    allowed = None if mask is None else mask[before + first : before + first + len(chunk)]
                    if allowed is None or allowed.any():
                        yield start + first, len(chunk), self._on_device(chunk), allowed
                before += len(codes)

    def _prepare(self, run: slice) -> HammingDatabase | None:
        """The codes of a run prepared where memory is left for them: once it is searched again, or at once with tables
        or clusters, which make up for it with a single search."""
        names = self._names(run)
        if names in self._prepared:
            return self._prepared[names]
        if names not in self._searched and not (self._tables or self._clusters):
            self._searched.add(names)
            return None
        codes = [part.arrays["codes"] for part in self.parts[run]]
        held = sum(database.nbytes for database in self._prepared.values())
        wanted = sum(part.nbytes for part in codes)
        if self._clusters:  # the codes once more, and 4 bytes each
            wanted = 2 * wanted + 4 * sum(len(part) for part in codes)
        if held + wanted > self._memory:
            return None
        joined = self._on_device(codes[0] if len(codes) == 1 else np.concatenate(codes))
        database = HammingDatabase(joined, tables=self._tables, clusters=self._clusters)
        self._prepared[names] = database
        return database

    def _names(self, run: slice) -> tuple[PartFile, ...]:
        """With checksums: another index that was made in the same folder has parts of the same names."""
        return tuple(part.part.arrays for part in self.parts[run])

    def _on_device(self, array: np.ndarray | None) -> Any:
        if array is None or self._device == "cpu":
            return array
        return torch.from_numpy(np.array(array)).to(self._device)


def _runs(sizes: Sequence[int]) -> list[slice]:
    """Parts that are searched as one: a large one alone, small ones side by side together."""
    runs: list[slice] = []
    for i, size in enumerate(sizes):
        if runs and size < _SMALL and sizes[i - 1] < _SMALL:
            runs[-1] = slice(runs[-1].start, i + 1)
        else:
            runs.append(slice(i, i + 1))
    return runs


def _joined(masks: Sequence[np.ndarray | None], parts: Sequence[OpenPart]) -> np.ndarray | None:
    """The masks of parts behind each other; None where all of them are."""
    if all(mask is None for mask in masks):
        return None
    return np.concatenate(
        [
            np.ones(part.part.n_items, bool) if mask is None else mask
            for mask, part in zip(masks, parts, strict=True)
        ]
    )


def _as_numpy(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else values


def nearest_variants(
    distances: np.ndarray, positions: np.ndarray, n_variants: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the answers ``(n_query * n_variants, k)`` of each query's variants the ``k`` items of least distance.

    Every item of the answer is among the k best of the variant that it is nearest to: fewer than k precede it there.
    """
    n_query = len(distances) // n_variants
    width = n_variants * distances.shape[1]
    distances, positions = distances.reshape(n_query, width), positions.reshape(n_query, width)
    order = np.lexsort((distances, positions), axis=1)
    distances, positions = (np.take_along_axis(a, order, axis=1) for a in (distances, positions))
    again = np.zeros_like(positions, bool)
    again[:, 1:] = positions[:, 1:] == positions[:, :-1]
    worst = np.iinfo(np.int32).max
    distances = np.where(again | (positions < 0), worst, distances)
    positions = np.where(again, -1, positions)
    order = np.lexsort((np.where(positions < 0, np.iinfo(np.int64).max, positions), distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(positions, order, axis=1)


def within_of_variants(
    offsets: np.ndarray, distances: np.ndarray, positions: np.ndarray, n_variants: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the radius answers of each query's variants every item once, at its least distance."""
    row = np.repeat(np.arange(len(offsets) - 1) // n_variants, np.diff(offsets))
    order = np.lexsort((distances, positions, row))
    row, distances, positions = row[order], distances[order], positions[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (positions[1:] != positions[:-1])
    row, distances, positions = row[first], distances[first], positions[first]
    order = np.lexsort((positions, distances, row))
    n_query = (len(offsets) - 1) // n_variants
    counts = np.bincount(row, minlength=n_query)
    return np.array([0, *itertools.accumulate(counts.tolist())]), distances[order], positions[order]
