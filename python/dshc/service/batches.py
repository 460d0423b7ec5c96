"""Searches of several requests, answered by one call of the index: what waits while one runs goes together next.

Equal conditions go together, and numbers of results up to the same power of two (where the nearest are rescored, equal
numbers); each request gets its own first k, which are those that it would get alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from ..index import HashIndex, SearchResult
from ..index.rescoring import Rescoring
from ..storage import describe_label
from .conditions import Condition
from .plain_metadata import plain_columns

__all__ = ["Batches", "Job", "answered", "details_of", "told_of"]

Result = TypeVar("Result")
_LARGEST = np.finfo(np.float32).max
_TURNS = 3
"""Turns of the event loop before a search: requests that have arrived by now come as far as to join it."""


@dataclass(eq=False)
class Job:
    """Queries of one request, each with the ``k`` nearest, and what is told of them.

    ``queries``: packed codes uint8 ``(n, bytes)``, or ``(n, v, bytes)`` of v variants each; or outputs float32
    ``(n, bits)``. ``rescoring``: how the nearest are ordered anew. ``missing``: the shards that the answer is without,
    told by who answers.
    """

    queries: np.ndarray
    k: int
    condition: Condition = field(default_factory=Condition)
    details: frozenset[str] = frozenset()
    rescoring: Rescoring | None = None
    answer: asyncio.Future[list[list[dict[str, Any]]]] | None = None
    missing: tuple[str, ...] = ()

    @property
    def n_searched(self) -> int:
        """Rows that are compared with the items."""
        return math.prod(self.queries.shape[:-1])

    @property
    def kind(self) -> tuple[Any, ...]:
        """Jobs of one kind are answered together."""
        way = (self.queries.dtype.kind, self.queries.shape[1:-1])
        if self.rescoring is not None:  # how many candidates there are depends on k
            return self.condition, self.k, *way, self.rescoring.factor, self.rescoring.metric
        return self.condition, max(0, self.k - 1).bit_length(), *way


class Batches:
    """Answers jobs in one thread of its own, so that the event loop never waits for a search.

    Args:
        index: gives the index in its present state.
        seconds: how long a job waits for others where nothing runs.
        most: queries that are searched at a time; a job of more runs alone.
        on_batch: told the number of queries and the seconds of each search.
    """

    def __init__(
        self,
        index: Callable[[], HashIndex],
        *,
        seconds: float = 0.0,
        most: int = 256,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._index, self._seconds, self._most, self._on_batch = index, seconds, most, on_batch
        self._waiting: dict[tuple[Any, ...], list[Job]] = {}
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dshc-search")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Let a search that runs end; what waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for jobs in self._waiting.values():
            for job in jobs:
                if job.answer is not None:
                    job.answer.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def between(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, called while no search runs."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def search(self, job: Job) -> list[list[dict[str, Any]]]:
        """For each query its items, nearest first, as :func:`answered` tells them.

        Raises what the search raises. Cancelled, it is not begun where it still waits.
        """
        job.answer = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job.kind, []).append(job)
        self._arrived.set()
        return await job.answer

    def _answered(self, index: Any, jobs: Sequence[Job]) -> list[list[list[dict[str, Any]]]]:
        return answered(index, jobs)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                if self._seconds:
                    await asyncio.sleep(self._seconds)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            jobs = self._take()
            if jobs:
                await self._answer(jobs)

    def _take(self) -> list[Job]:
        """Jobs of the kind that waits longest, as many as are searched at a time; the rest waits behind other kinds."""
        kind = next(iter(self._waiting))
        waiting = [job for job in self._waiting.pop(kind) if job.answer is not None and not job.answer.done()]
        n_jobs, n_queries = 0, 0
        for job in waiting:
            if n_jobs and n_queries + job.n_searched > self._most:
                self._waiting[kind] = waiting[n_jobs:]
                break
            n_jobs, n_queries = n_jobs + 1, n_queries + job.n_searched
        return waiting[:n_jobs]

    async def _answer(self, jobs: list[Job]) -> None:
        loop = asyncio.get_running_loop()
        started = perf_counter()
        try:
            found = await loop.run_in_executor(self._thread, self._answered, self._index(), jobs)
        except asyncio.CancelledError:
            for job in jobs:
                if job.answer is not None:
                    job.answer.cancel()
            raise
        except Exception as error:
            for job in jobs:
                if job.answer is not None and not job.answer.done():
                    job.answer.set_exception(error)
            return
        finally:
            if self._on_batch is not None:
                self._on_batch(sum(job.n_searched for job in jobs), perf_counter() - started)
        for job, answer in zip(jobs, found, strict=True):
            if job.answer is not None and not job.answer.done():
                job.answer.set_result(answer)


def answered(index: HashIndex, jobs: Sequence[Job]) -> list[list[list[dict[str, Any]]]]:
    """Answer jobs of one kind by one search: for each job and query ``{"id": ..., "distance": ..., ...}`` per item.

    Where the index has fewer items than a job asks for, or its condition leaves fewer, there are so many.
    """
    n_items = len(index)
    if not n_items:
        return [[[] for _ in job.queries] for job in jobs]
    result = _searched(index, jobs, min(max(job.k for job in jobs), n_items))
    there = _there(result, index.score)
    distances = result.distances
    if distances.dtype == np.float32:  # JSON knows nothing infinite
        distances = np.clip(distances, -_LARGEST, _LARGEST)
    found, start = [], 0
    for job in jobs:
        rows = slice(start, start + len(job.queries))
        start += len(job.queries)
        cut = (rows, slice(job.k))
        found.append(_items(index, job, result.ids[cut], distances[cut], there[cut]))
    return found


def _searched(index: HashIndex, jobs: Sequence[Job], k: int) -> SearchResult:
    arguments = jobs[0].condition.arguments(index.layout)
    queries = _joined([job.queries for job in jobs])
    if queries.dtype.kind == "f":
        return index.search_outputs(queries, k, **arguments)
    rescorings = [job.rescoring for job in jobs if job.rescoring is not None]
    if rescorings:
        arguments |= {
            "rescore": rescorings[0].factor,
            "metric": rescorings[0].metric,
            "vectors": _joined([one.vectors for one in rescorings]),
        }
    return index.search(queries, k, **arguments)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _there(result: SearchResult, score: str) -> np.ndarray:
    """Where an answer is an item, and not the rest of a row that has fewer."""
    distances, ids = result.distances, result.ids
    if distances.dtype == np.float32:
        is_id = ids != -1 if ids.dtype != object else np.not_equal(ids, None).astype(bool)
        return np.isfinite(distances) | is_id
    return distances >= 0 if score == "overlap" else distances < np.iinfo(np.int32).max


def _items(
    index: HashIndex, job: Job, ids: np.ndarray, distances: np.ndarray, there: np.ndarray
) -> list[list[dict[str, Any]]]:
    counts = there.sum(axis=1).tolist()
    own_ids, own_distances = ids[there].tolist(), distances[there].tolist()
    items: list[dict[str, Any]] = [
        {"id": id, "distance": distance} for id, distance in zip(own_ids, own_distances, strict=True)
    ]
    if job.details and items:
        for item, more in zip(items, details_of(index, own_ids, job.details), strict=True):
            item.update(more)
    rows, start = [], 0
    for count in counts:
        rows.append(items[start : start + count])
        start += count
    return rows


def details_of(index: HashIndex, ids: list[Any], details: frozenset[str]) -> list[dict[str, Any]]:
    """Of each item what is asked for, of ``code`` (hex), ``label`` (text, None: not known) and ``metadata``."""
    kept = index.get(ids, metadata="metadata" in details, vectors=False)
    return told_of(kept, len(ids), details, index.layout.class_names)


def told_of(kept: Any, n: int, details: frozenset[str], class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The same of ``n`` items of which an index or shards have told what they keep."""
    found: list[dict[str, Any]] = [{} for _ in range(n)]
    if "code" in details:
        for item, code in zip(found, kept.codes, strict=True):
            item["code"] = code.tobytes().hex()
    if "label" in details:
        for row, item in enumerate(found):
            label = None if kept.labels is None else kept.labels[row]
            known = label is not None and (label.any() if np.ndim(label) else label >= 0)
            item["label"] = describe_label(label, class_names) if known else None
    if "metadata" in details:
        columns = {} if kept.metadata is None else plain_columns(kept.metadata)
        for row, item in enumerate(found):
            item["metadata"] = {name: values[row] for name, values in columns.items()}
    return found
