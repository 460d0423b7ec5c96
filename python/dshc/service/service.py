"""A service at work: what is served, its threads, and what it does beside answering requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError, shortened
from ..index import Items
from .batches import Batches, Job, details_of
from .code_map import code_map
from .conditions import typed_ids
from .problems import Problem
from .queries import Queries, encoded, features_of, read_codes, read_vectors
from .ranking import Ranking
from .served import Served
from .settings import ServiceSettings
from .variants import Variant, decoded
from .watch import JsonLog, Metrics

__all__ = ["Service"]

Result = TypeVar("Result")


class Service:
    """Attributes: ``served``, ``settings``, ``keys``, ``metrics``, ``log``; ``is_ready``, whether requests should come,
    and ``not_ready``, why they should not yet, as far as it is known.

    One thread searches, one runs the hasher, two decode images, some look items up; the event loop only waits for them.
    """

    def __init__(
        self,
        served: Served,
        settings: ServiceSettings,
        keys: Sequence[str] = (),
        *,
        log: JsonLog | None = None,
        batches: type[Batches] = Batches,
    ) -> None:
        self._kind_of_batches = batches
        self.served, self.settings, self.keys = served, settings, tuple(keys)
        self.metrics, self.log = Metrics(), log or JsonLog()
        self.is_ready, self.not_ready = False, ""
        self._batches: Batches | None = None
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="dshc-hasher")
        self._reading = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="dshc-reading")
        # An image of 40 million pixels takes some 500 MB on its way.
        self._decoding = ThreadPoolExecutor(2, thread_name_prefix="dshc-decoding")
        self._mapping = ThreadPoolExecutor(1, thread_name_prefix="dshc-map")
        self._tasks: list[asyncio.Task[None]] = []
        self._map: dict[str, Any] | None = None
        self._map_state, self._map_of = "none", -1

    # Begun and ended, in the event loop

    async def start(self) -> None:
        """Begin to search, and to look for changes."""
        settings = self.settings
        self._batches = self._kind_of_batches(
            lambda: self.served.index,
            seconds=settings.batch_ms / 1000,
            most=settings.batch_queries,
            on_batch=self.metrics.batch,
        )
        self._batches.start()
        self.metrics.items.set(len(self.served.index))
        self._tasks = [asyncio.create_task(self._warm_up()), asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        """Let what runs end."""
        self.is_ready = False
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._batches is not None:
            await self._batches.stop()
        for pool in (self._hashing, self._decoding, self._reading, self._mapping):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def _warm_up(self) -> None:
        """Search twice: then the codes are prepared. Tried again at every look, each reason why not said once."""
        told: set[str] = set()
        while not self.is_ready:
            try:
                index = self.served.index
                for _ in range(2):
                    await self.search(Job(np.zeros((1, index.layout.n_bytes), np.uint8), 1))
            except Exception as error:
                self.not_ready = self.without_path(str(error))
                if self.not_ready not in told:
                    told.add(self.not_ready)
                    self.log("not ready", error=self.not_ready)
                await asyncio.sleep(self.settings.poll_seconds)
            else:
                self.is_ready, self.not_ready = True, ""
        self.log("ready", index=self.served.name, items=len(self.served.index))

    async def _follow(self) -> None:
        """Take over the index as a writer leaves it; requests that run keep the state they began with."""
        assert self._batches is not None
        failed = ""
        while True:
            await asyncio.sleep(self.settings.poll_seconds)
            try:
                if not await self._in(self._reading, self.served.has_changed):
                    continue
                # What searches have prepared is handed on, and must not grow meanwhile.
                newer = await self._batches.between(self.served.newer)
            except Exception as error:
                if str(error) != failed:  # tried again at every look, and said once
                    failed = str(error)
                    self.metrics.refreshes.labels("failed").inc()
                    self.log("refresh failed", error=self.without_path(failed))
                continue
            self.served.index, failed = newer, ""
            self.metrics.refreshes.labels("done").inc()
            self.metrics.items.set(len(newer))
            self.log("refreshed", items=len(newer))

    # What requests ask for

    async def search(self, job: Job) -> tuple[list[list[dict[str, Any]]], tuple[str, ...]]:
        """For each query its ``k`` nearest items, or fewer, nearest first; and the shards that these are without."""
        assert self._batches is not None
        return await self._batches.search(job), job.missing

    async def queries_of_items(self, ids: Sequence[str | int], ranking: Ranking) -> Queries:
        """The codes of items, and their vectors. Ends the request with 404 where there is none of an id."""
        index = self.served.index
        wanted = typed_ids(ids, index.layout)
        v = ranking.n_variants

        def queries_of(items: Items) -> Queries:
            vectors = None
            if ranking.rescore is not None and items.vectors is not None:
                vectors = items.vectors[::v]
            codes = items.codes.reshape(-1, v, index.layout.n_bytes)
            return Queries(codes, [None] * len(codes), vectors)

        def found() -> Items:
            return index.get(wanted, metadata=False, vectors=ranking.rescore is not None)

        def look_up() -> Queries:
            if None not in wanted:
                with contextlib.suppress(InputError):  # an id that is not there: it is named as it was given
                    return queries_of(found())
            for given, id in zip(ids, wanted, strict=True):
                if id is None or id not in index:
                    raise Problem(404, "not_found", f"ids must be in the index, got {_shown(given)}")
            return queries_of(found())

        return await self._in(self._reading, look_up)

    async def item(self, id: str | int) -> dict[str, Any]:
        """All that is told of an item."""
        index = self.served.index
        wanted = typed_ids([id], index.layout)[0]

        def look_up() -> dict[str, Any]:
            if wanted is None or wanted not in index:
                raise Problem(404, "not_found", f"id must be in the index, got {_shown(id)}")
            return {"id": wanted, **details_of(index, [wanted], frozenset({"code", "label", "metadata"}))[0]}

        return await self._in(self._reading, look_up)

    async def picture(self, id: str) -> Any:
        """The picture of an item of the index; ends the request with 404 where there is none."""
        pictures, index = self.served.pictures, self.served.index
        wanted = typed_ids([id], index.layout)[0]

        def look_up() -> Any:
            if pictures is not None and wanted is not None and wanted in index:
                with contextlib.suppress(LookupError):
                    return pictures.picture(str(wanted))
            raise Problem(404, "not_found", f"id must be of an item with a picture, got {_shown(id)}")

        return await self._in(self._decoding, look_up)

    async def random(self, n: int) -> list[Any]:
        """Ids of items drawn at random."""
        index = self.served.index
        return await self._in(self._reading, lambda: index.sample(n).tolist())

    def queries_of_codes(
        self,
        written: Sequence[Any],
        code_format: str,
        vectors: Sequence[Sequence[float]] | None,
        ranking: Ranking,
    ) -> Queries:
        """Codes as they were written, with ``vectors`` to rescore by, one for each query."""
        layout, v = self.served.index.layout, ranking.n_variants
        codes = read_codes(written, code_format, layout).reshape(-1, v, layout.n_bytes)
        if vectors is None:
            return Queries(codes, [None] * len(codes))
        if len(vectors) != len(codes):
            raise InputError(f"rescore_vectors must be one for each query, {len(codes)}, got {len(vectors)}")
        return Queries(
            codes, [None] * len(codes), read_vectors(vectors, layout.n_dimensions, "rescore_vectors")
        )

    async def encode_vectors(self, vectors: Sequence[Sequence[float]], ranking: Ranking) -> Queries:
        """Codes and predicted classes of features."""
        hasher = self.served.hasher
        if hasher is None:
            raise InputError("vectors must go with an index that has a hasher, this one has none; send codes")
        return await self._in(self._hashing, lambda: encoded(hasher, features_of(vectors, hasher), ranking))

    async def encode_images(
        self, contents: Sequence[bytes], variants: Sequence[Variant], ranking: Ranking
    ) -> Queries:
        """Codes and predicted classes of image files."""
        hasher = self.served.hasher
        if hasher is None or hasher.kind != "images":
            what = "has none" if hasher is None else "has one of features; send vectors"
            raise InputError(f"images must go with an index that has a hasher of images, this one {what}")
        images = await asyncio.gather(
            *(
                self._in(self._decoding, decoded, content, row, hasher, self.settings.max_pixels, variants)
                for row, content in enumerate(contents)
            )
        )
        return await self._in(self._hashing, encoded, hasher, np.concatenate(images), ranking)

    def map(self) -> dict[str, Any]:
        """The map of the codes; begun where there is none of the index as it is, give or take a tenth of its items."""
        n_items = len(self.served.index)
        is_old = abs(n_items - self._map_of) > 0.1 * max(1, self._map_of)
        if self._map_state != "computing" and is_old:
            self._map_state, self._map_of = "computing", n_items
            self._tasks.append(asyncio.create_task(self._make_map()))
        if self._map is not None and (self._map["points"] or self._map_state != "computing"):
            return {"state": "ready", **self._map}
        return {"state": self._map_state, "points": [], "n_looked_at": 0, "n_codes": 0}

    async def _make_map(self) -> None:
        try:
            self._map = await self._in(self._mapping, code_map, self.served.index)
            self._map_state = "ready"
        except Exception as error:
            self._map_state = "failed"
            self.log("map failed", error=self.without_path(str(error)))

    def without_path(self, text: str) -> str:
        """A message without where the index lies, which is nobody's business outside."""
        return self.served.without_path(text)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


def _shown(id: str | int) -> str:
    text = ascii(id)
    return shortened(text)
