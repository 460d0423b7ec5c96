"""`ShardedItems`: shards with what is kept of their items, asked as a :class:`dshc.HashIndex` is asked by a service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..index import Items, Layout
from ..index.filters import Filter
from ..index.index_items import shown
from ..index.new_items import checked_ids
from ..index.precision import widest_radius
from .holders import MissingShards
from .shard_items import Kept, joined
from .sharded_index import ShardedIndex, ShardedTopK

__all__ = ["ShardedItems"]

_ALL = frozenset({"code", "label", "metadata"})


class ShardedItems(ShardedIndex):
    """Search with filters, and items by their ids, over shards; all of them must keep the same of their items.

    An item of a shard without ids has the number that it has over all shards as its id. An id that two shards have
    is that of the first. Arguments and errors as of :class:`ShardedIndex`, and :class:`InputError` for shards that
    keep different things of their items.

    Attributes: ``path``, the folder or the list of the shards; ``layout``, as of an index.
    """

    def __init__(
        self, address: str | None, shards: str | os.PathLike[str], *, partial: bool = False, **more: Any
    ) -> None:
        super().__init__(address, shards, partial=partial, **more)
        self.path = Path(shards)
        try:
            self.layout = self._common_layout()
        except BaseException:
            self.close()
            raise

    def nearest(self, codes: np.ndarray, k: int, only: Filter | None = None) -> ShardedTopK:
        """:meth:`search` among the items that ``only`` lets through; filled up where they are fewer.

        Raises ``TypeError`` or :class:`InputError` for a condition that cannot be answered.
        """
        return self._nearest(codes, k, None, {} if only is None else self._filters(only))

    def kept(self, indices: np.ndarray, details: frozenset[str]) -> Kept:
        """Ids of items by their indices, int64 ``(n,)``, and ``details`` of them, of ``code``, ``label`` and
        ``metadata``. Raises :class:`MissingShards` where one lies in a shard that cannot be had."""
        found, _, missing = self._kept_of_some(indices, details)
        if missing:
            raise MissingShards("; ".join(missing))
        return found

    def find(self, ids: Any) -> np.ndarray:
        """The index of each id, int64, -1 where no item has it; of text or integers, as the layout has them.

        Raises :class:`MissingShards` for an id that only a shard that cannot be had may have.
        """
        wanted = checked_ids(ids, self.layout)
        found = np.full(len(wanted), -1, np.int64)
        answers = self._asked("find", lambda place: (self._own(wanted, place),))
        for place, rows in sorted(answers.items(), reverse=True):
            found = np.where(rows >= 0, rows + self.starts[place], found)
        if answers.missing and (found < 0).any():
            raise MissingShards("; ".join(answers.missing[place] for place in sorted(answers.missing)))
        return found

    def __contains__(self, id: object) -> bool:
        return bool(self.find([id])[0] >= 0)

    def get(self, ids: Any, *, metadata: bool = True, vectors: bool = True) -> Items:
        """What is kept of these items, but for vectors, which shards do not tell; without metadata if not asked for.

        Raises :class:`InputError` naming an id that no item has."""
        found = self.find(ids)
        if (absent := np.flatnonzero(found < 0)).size:
            raise InputError(f"ids must be in the index, got {shown(list(ids)[absent[0]])}")
        kept = self.kept(found, _ALL if metadata else _ALL - {"metadata"})
        assert kept.codes is not None
        return Items(kept.codes, kept.labels, kept.metadata, None)

    def sample(self, n: int, *, seed: int | None = None) -> np.ndarray:
        """The ids of ``n`` items drawn at random, as :meth:`dshc.HashIndex.sample` draws them; with ``partial`` without
        those of shards that cannot be had."""
        if n < 0:
            raise InputError(f"n must be at least 0, got {n}")
        drawn = np.random.default_rng(seed).choice(len(self), min(n, len(self)), replace=False, shuffle=False)
        kept, _, missing = self._kept_of_some(np.sort(drawn).astype(np.int64), frozenset())
        if missing and not self.partial:
            raise MissingShards("; ".join(missing))
        return kept.ids

    def radius_for(self, precision: float) -> int:
        """:meth:`dshc.HashIndex.radius_for`; what was measured of several shards by themselves is that of none."""
        measured = [facts.precision for facts in self._facts.values()]
        return widest_radius(measured[0] if len(self._listed) == 1 else (), precision, self.path)

    # Pieces of the above

    def _kept_of_some(
        self, indices: np.ndarray, details: frozenset[str]
    ) -> tuple[Kept, np.ndarray, list[str]]:
        """What is kept of the items whose shards can be had, which of the items these are, why not the others."""
        if self._are_bare and not details:
            return Kept(indices, None, None, None), np.ones(len(indices), bool), []
        number = np.searchsorted(self.starts, indices, side="right") - 1
        places = {int(place): np.flatnonzero(number == place) for place in np.unique(number)}
        asked = {place: (indices[rows] - self.starts[place], details) for place, rows in places.items()}
        answers = self._open_holders().ask("kept", asked)
        had = np.isin(number, list(answers))
        before = np.cumsum(had) - 1
        parts = [
            (
                before[places[place]],
                own._replace(ids=own.ids + self.starts[place]) if self._are_bare else own,
            )
            for place, own in sorted(answers.items())
        ]
        missing = [answers.missing[place] for place in sorted(answers.missing)]
        return joined(parts, int(had.sum()), self.layout, details), had, missing

    def _common_layout(self) -> Layout:
        first = next(iter(self._facts.values()))
        for other in self._facts.values():
            for name, what in (
                ("ids", "ids"),
                ("has_ids", "ids"),
                ("labels", "labels"),
                ("metadata", "metadata"),
            ):
                one, two = getattr(first, name), getattr(other, name)
                if one != two:
                    raise InputError(
                        f"{other.path}: must have the {what} of {first.path} to be served with it, {one}, got {two}"
                    )
        self._are_bare = not first.has_ids
        names = self.class_names if first.labels != "none" else ()
        return Layout(
            self.n_bits, self.score, first.ids, first.labels, names, metadata=first.metadata, model=self.model
        )

    def _filters(self, only: Filter) -> dict[int, Filter]:
        """The filter of each shard: without ids it knows its items by their rows."""
        if only.ids is None or not self._are_bare:
            return dict.fromkeys(range(len(self._listed)), only)
        wanted = checked_ids(only.ids, self.layout)
        return {
            place: Filter(self._own(wanted, place), only.label, only.where)
            for place in range(len(self._listed))
        }

    def _own(self, wanted: np.ndarray | Sequence[str], place: int) -> Any:
        """Ids as the shard of a place has them."""
        if not self._are_bare:
            return wanted
        rows = np.asarray(wanted, np.int64) - self.starts[place]
        return np.where((rows >= 0) & (rows < self.starts[place + 1] - self.starts[place]), rows, -1)
