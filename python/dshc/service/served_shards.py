"""What is served of shards: held by the nodes of a cluster, or by this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..cluster import MissingShards, ShardedItems, ShardedTopK, read_shards
from ..errors import InputError
from ..index import HashIndex
from ..index.filters import Filter
from ..index.hasher_beside import FOLDER as HASHER
from ..index.manifest import MANIFEST
from ..runs import load_run
from ..runs.encoding import model_name
from ..runs.run_folder import CONFIG
from .batches import Batches, Job, told_of
from .pictures import FolderPictures, Pictures
from .served import pictures_of_run

if TYPE_CHECKING:
    from ..hasher import Hasher

__all__ = ["ServedShards", "ShardBatches"]

_RETIRED = 30.0
"""Least seconds that the holders of a state that was replaced go on to answer who began with it."""


class ServedShards:
    """Shards in their present state, as :class:`dshc.service.Served` is of an index. Made by :meth:`open`."""

    is_one_index: ClassVar[bool] = False

    def __init__(
        self,
        index: ShardedItems,
        address: str | None,
        *,
        hasher: Hasher | None = None,
        pictures: Pictures | None = None,
        holders: dict[str, Any] | None = None,
        max_seconds: float = 0.0,
    ) -> None:
        self.index, self.hasher, self.pictures, self.name = index, hasher, pictures, index.path.name
        self.remarks: tuple[str, ...] = ()
        self._address, self._more = address, holders or {}
        self._seen = _stamps(index.path)
        self._retire_after = max(_RETIRED, max_seconds + 1)
        self._retired: dict[ShardedItems, threading.Timer] = {}

    @classmethod
    def open(
        cls,
        address: str | None,
        path: str | os.PathLike[str],
        *,
        run: str | os.PathLike[str] | None = None,
        images: str | os.PathLike[str] | None = None,
        max_pixels: int = 40_000_000,
        partial: bool = False,
        max_seconds: float = 0.0,
        **holders: Any,
    ) -> Self:
        """Serve shards that are held at ``address`` (see :class:`dshc.cluster.Connection`; None: in this process).

        Args:
            path: a folder, or a JSON list, of code files and indexes (see :func:`dshc.cluster.read_shards`).
            run: whose hasher makes codes of queries; by default that of the first index with a hasher beside it.
            images: folder to which the ids of items are relative paths; by default the images of ``run``.
            max_pixels: pictures of more are not shown.
            partial: answer without the shards that cannot be had; the answer then names them.
            max_seconds: that a request may take; a state that was replaced is held for longer.
            holders: settings of :class:`dshc.cluster.RayHolders`.

        Raises what :class:`dshc.cluster.ShardedItems` raises, and :class:`InputError` for a run, which has no shards.
        """
        path = Path(path)
        if path.joinpath(CONFIG).is_file() and not path.joinpath(MANIFEST).exists():
            raise InputError(
                f"{path}: must be shards with --cluster (code files and indexes in a folder or a JSON list), it is a "
                "run; dshc encode RUN INPUT --cluster ADDRESS --out FOLDER makes them, then --run RUN encodes queries"
            )
        pictures = None if images is None else FolderPictures(images, max_pixels)
        remarks: tuple[str, ...] = ()
        hasher = None
        if run is not None:
            loaded = load_run(run)
            hasher = loaded.hasher
            if pictures is None:
                pictures, remarks = pictures_of_run(loaded, max_pixels)
        index = ShardedItems(address, path, partial=partial, **holders)
        try:
            if run is not None and index.model and model_name(loaded) != index.model:
                raise InputError(
                    f"{run}: must be the model of the shards, {index.model}, got {model_name(loaded)}"
                )
            hasher = hasher or _hasher_beside(index.shards)
            if hasher is not None and (hasher.n_bits, hasher.score) != (index.n_bits, index.score):
                raise InputError(
                    f"{run}: must make codes as the shards have them, {index.n_bits} bits ranked by {index.score}, got "
                    f"{hasher.n_bits} bits ranked by {hasher.score}"
                )
        except BaseException:
            index.close()
            raise
        found = cls(
            index, address, hasher=hasher, pictures=pictures, holders=holders, max_seconds=max_seconds
        )
        found.remarks = remarks
        return found

    def close(self) -> None:
        """Give back what was held."""
        for index, timer in list(self._retired.items()):
            timer.cancel()
            self._end(index)
        self.index.close()

    def has_changed(self) -> bool:
        """Whether there are other shards now, or a writer has been at one; as far as this machine sees them."""
        return _stamps(self.index.path) != self._seen

    def newer(self) -> ShardedItems:
        """The shards as they are now, opened beside the present ones, whose holders end some time later.

        Raises ``ValueError`` or ``OSError`` where they cannot be read, :class:`InputError` where they are others now.
        """
        seen = _stamps(self.index.path)
        before = self.index
        newer = ShardedItems(self._address, before.path, partial=before.partial, **self._more)
        if newer.layout != before.layout:
            newer.close()
            raise InputError(
                f"{newer.path}: must be the shards that were opened, got some of another layout; start again"
            )
        self._seen = seen
        timer = self._retired[before] = threading.Timer(self._retire_after, self._end, [before])
        timer.daemon = True
        timer.start()
        return newer

    def _end(self, retired: ShardedItems) -> None:
        retired.close()
        self._retired.pop(retired, None)

    def without_path(self, text: str) -> str:
        """A message without where the shards lie: they go by their names."""
        for path in (*self.index.shards, str(self.index.path.absolute()), str(self.index.path)):
            text = text.replace(path, Path(path).name)
        return text


class ShardBatches(Batches):
    """Answers jobs of one kind by one question to all shards, and one for what is told of the items that it found."""

    def _answered(self, index: ShardedItems, jobs: Sequence[Job]) -> list[list[list[dict[str, Any]]]]:
        return answered_by_shards(index, jobs)


def answered_by_shards(index: ShardedItems, jobs: Sequence[Job]) -> list[list[list[dict[str, Any]]]]:
    """:func:`dshc.service.batches.answered` over shards, item by item the same."""
    details = frozenset().union(*(job.details for job in jobs))
    indices, distances, counts = _nearest(index, jobs)
    try:
        kept = index.kept(np.concatenate(indices), details)
    except MissingShards:
        if not index.partial:
            raise
        # A shard was lost after it had answered: another search is without it, and says so.
        indices, distances, counts = _nearest(index, jobs)
        kept = index.kept(np.concatenate(indices), details)
    names, answers, start = index.layout.class_names, [], 0
    for job, own, far, sizes in zip(jobs, indices, distances, counts, strict=True):
        part = slice(start, start + len(own))
        start += len(own)
        part_kept = type(kept)(*(None if value is None else value[part] for value in kept))
        items: list[dict[str, Any]] = [
            {"id": id, "distance": distance}
            for id, distance in zip(part_kept.ids.tolist(), far.tolist(), strict=True)
        ]
        for item, more in zip(items, told_of(part_kept, len(own), job.details, names), strict=True):
            item.update(more)
        ends = np.cumsum([0, *sizes]).tolist()
        answers.append([items[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)])
    return answers


def _nearest(
    index: ShardedItems, jobs: Sequence[Job]
) -> tuple[list[np.ndarray], list[np.ndarray], list[list[int]]]:
    """Of each job the items that are found and their distances, query after query, and how many each query has."""
    arguments = jobs[0].condition.arguments(index.layout)
    queries = jobs[0].queries if len(jobs) == 1 else np.concatenate([job.queries for job in jobs])
    k = min(max(job.k for job in jobs), len(index))
    found = index.nearest(
        queries.reshape(-1, queries.shape[-1]), k, Filter(**arguments) if arguments else None
    )
    if queries.ndim == 3:
        found = _of_variants(found, len(queries))
    start, indices, distances, counts = 0, [], [], []
    for job in jobs:
        rows = slice(start, start + len(job.queries))
        start += len(job.queries)
        own, far = found.indices[rows, : job.k], found.distances[rows, : job.k]
        indices.append(own[own >= 0])
        distances.append(far[own >= 0])
        counts.append((own >= 0).sum(axis=1).tolist())
        job.missing = found.missing
    return indices, distances, counts


def _of_variants(found: ShardedTopK, n: int) -> ShardedTopK:
    """Of ``n`` queries the k nearest items, an item's distance being the least of the query's variants.

    An item among them is among the k nearest of the variant that is nearest to it.
    """
    k = found.indices.shape[1]
    indices, distances = np.full((n, k), -1, np.int64), np.zeros((n, k), found.distances.dtype)
    for row, (own, far) in enumerate(
        zip(found.indices.reshape(n, -1), found.distances.reshape(n, -1), strict=True)
    ):
        order = np.lexsort((own, far))
        order = order[own[order] >= 0]
        first = np.sort(np.unique(own[order], return_index=True)[1])[:k]
        indices[row, : len(first)] = own[order][first]
        distances[row, : len(first)] = far[order][first]
    return found._replace(indices=indices, distances=distances)


def _stamps(path: Path) -> tuple[Any, ...]:
    """What tells a change: the list of shards, and of each its file, or that which says what an index consists of."""
    try:
        shards = read_shards(path)
    except (OSError, ValueError):  # it is being replaced
        return ()
    found = []
    for shard in shards:
        one = Path(shard.path)
        try:
            about = os.stat(one / MANIFEST if one.is_dir() else one)
        except OSError:  # not seen from here
            found.append((shard, None))
        else:
            found.append((shard, (about.st_ino, about.st_mtime_ns, about.st_size)))
    return tuple(found)


def _hasher_beside(shards: Sequence[str]) -> Hasher | None:
    """That of the first index with one, as far as this machine sees it."""
    for path in map(Path, shards):
        if (path / HASHER).is_dir():
            with HashIndex.open(path, read_only=True) as index:
                return index.hasher
    return None
