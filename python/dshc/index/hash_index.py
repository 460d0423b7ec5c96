"""`HashIndex`: codes with their ids, labels, metadata and vectors in a folder, searched exactly and changed safely."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from . import changes, rescoring
from .filters import Filter
from .index_folder import PARTS
from .index_items import IndexItems, Items, shown
from .new_items import NewItems, checked_codes, checked_ids
from .part_search import nearest_variants, within_of_variants
from .precision import precision_by_radius, widest_radius
from .sources import Added, add_source, read_source

if TYPE_CHECKING:
    import pyarrow.compute

__all__ = ["HashIndex", "Items", "RadiusResult", "SearchResult"]


class SearchResult(NamedTuple):
    """``distances`` ``(n_query, k)``: int32, or float32 where vectors were compared; ``ids`` ``(n_query, k)``: int64,
    or objects (text). Where fewer than ``k`` items may be answered the rest has id -1 (None)."""

    distances: np.ndarray
    ids: np.ndarray


class RadiusResult(NamedTuple):
    """Query q has ``ids[offsets[q]:offsets[q + 1]]`` and the same part of ``distances``."""

    offsets: np.ndarray
    ids: np.ndarray
    distances: np.ndarray


class HashIndex(IndexItems):
    """Codes in a folder: exact search, ids of one's own, filters, and changes that a crash cannot tear.

    Made by :meth:`create` and :meth:`open`. One process writes at a time, any number read; a reader sees the index as
    it was when it was opened, or last refreshed, whatever the writer does. Items are in the order in which they were
    added (an updated one is added anew), and at equal distance the earlier one comes first: answers are those of
    :func:`dshc_fast.hamming_topk` over one array of the items in that order, to the bit.

    A change (``add``, ``remove``, ``update``, ``merge``, ``compact``) that has returned survives a kill and a power
    cut. One that raised, or was cut off, is not there at all.

    Attributes: ``path``, ``layout``, ``read_only``.

    >>> import numpy as np, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> codes = np.array([[0b0011], [0b0111], [0b1100]], np.uint8)
    >>> with HashIndex.create(f"{folder}/index", bits=4, ids="text") as index:
    ...     _ = index.add(codes, ["cat", "lynx", "tram"])
    ...     index.search(codes[:1], k=2).ids.tolist()
    [['cat', 'lynx']]
    """

    # Changes

    def add(
        self,
        codes: np.ndarray,
        ids: Any = None,
        *,
        labels: Any = None,
        vectors: Any = None,
        metadata: Any = None,
    ) -> np.ndarray:
        """Add items behind those that are there; returns their ids.

        Args:
            codes: packed, uint8 ``(n, ceil(bits / 8))``.
            ids: one for each, which the index does not have yet; None: integers that count on.
            labels: class ids ``(n,)`` or rows of 0 and 1; None: not known.
            vectors: floats ``(n, dimensions)``, for :meth:`search` with ``rescore``.
            metadata: a mapping of columns, an Arrow table, or a list of mappings; columns left out are null.

        Raises:
            TypeError, InputError: naming what does not fit; nothing is added then.
            OSError: the disk is full or cannot be written; nothing is added then.
        """
        self._check_writable()
        items = self._checked(codes, ids, labels, vectors, metadata)
        there, _ = self._places(_ids_of(items))
        if (taken := np.flatnonzero(there >= 0)).size:
            raise InputError(
                f"ids must be new, got {shown(_ids_of(items)[taken[0]])}, which the index has; update replaces items"
            )
        self._commit(items, {})
        return items.ids.take(np.arange(items.n_items))

    def update(
        self,
        codes: np.ndarray,
        ids: Any,
        *,
        labels: Any = None,
        vectors: Any = None,
        metadata: Any = None,
        missing: str = "error",
    ) -> np.ndarray:
        """Replace all that is kept of these items, in one step; they then count as the last ones added.

        ``missing``: what happens to an id that the index does not have, ``"error"`` or ``"add"``. Else as :meth:`add`.
        """
        self._check_writable()
        if ids is None:
            raise InputError("ids must name the items to replace, got none")
        if missing not in ("error", "add"):
            raise InputError(f"missing must be 'error' or 'add', got {missing!r}")
        items = self._checked(codes, ids, labels, vectors, metadata)
        numbers, rows = self._places(_ids_of(items))
        if missing == "error" and (absent := np.flatnonzero(numbers < 0)).size:
            raise InputError(f"ids must be in the index, got {shown(_ids_of(items)[absent[0]])}")
        self._commit(items, _by_part(numbers, rows))
        return items.ids.take(np.arange(items.n_items))

    def remove(self, ids: Any) -> int:
        """Remove items; returns how many. Raises :class:`InputError` for an id that is not there, or given twice."""
        self._check_writable()
        wanted = checked_ids(ids, self.layout)
        numbers, rows = self._places(wanted)
        if (absent := np.flatnonzero(numbers < 0)).size:
            raise InputError(f"ids must be in the index, got {shown(wanted[absent[0]])}")
        gone = _by_part(numbers, rows)
        if sum(len(part) for part in gone.values()) != len(wanted):
            raise InputError("ids must differ, got one twice")
        if len(wanted):
            self._commit(None, gone)
        return len(wanted)

    def merge(self, other: HashIndex) -> int:
        """Add all items of another index of the same layout; returns how many. Ids must not be in both."""
        self._check_writable()
        other._check_open()
        if other.layout != self.layout:
            names = [
                name for name, value in self.layout.to_dict().items() if value != other.layout.to_dict()[name]
            ]
            raise InputError(f"{other.path}: must have the layout of {self.path}, got another {names[0]}")
        for ids in other._ids_in_blocks():
            there, _ = self._places(ids)
            if (taken := np.flatnonzero(there >= 0)).size:
                raise InputError(f"ids must be new, got {shown(ids[taken[0]])}, which both indexes have")
        with _naming(self.path):
            try:
                change = changes.merged(
                    self.path / PARTS, self._manifest, self._parts, other._parts, self._disk
                )
            except FileNotFoundError:
                raise InputError(
                    f"{other.path}: must be as it was when it was opened, it was changed since; refresh() it, or "
                    "open it anew"
                ) from None
            self._publish(change)
        return len(other)

    def compact(self) -> None:
        """Write all items as one part and give back the room of those that were removed."""
        self._check_writable()
        if len(self._parts) > 1 or self.n_removed or not all(part.ids.sound for part in self._parts):
            with _naming(self.path):
                self._publish(changes.compacted(self.path / PARTS, self._manifest, self._parts, self._disk))

    def calibrate(self, codes: np.ndarray, labels: Any, *, ids: Any = None) -> np.ndarray:
        """Measure the precision within each radius for labelled queries, and keep it in the index.

        ``ids``: of the queries, where they may be items themselves: these items are left out. Returns float64
        ``(bits + 1,)``, the mean over the queries that find anything; NaN where none does. See :meth:`radius_for`.
        """
        self._check_writable()
        layout = self.layout
        but = None if ids is None else checked_ids(ids, layout)
        precision = precision_by_radius(self._parts, layout, checked_codes(codes, layout), labels, but)
        self._publish(changes.Change(self._manifest.changed(precision=tuple(precision.tolist()))))
        return precision

    def radius_for(self, precision: float) -> int:
        """The largest radius up to which at least this share of what is found is relevant, by :meth:`calibrate`.

        Raises :class:`InputError` where nothing was measured, or no radius reaches it.
        """
        return widest_radius(self._manifest.precision, precision, self.path)

    # Search

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        ids: Any = None,
        label: int | str | Sequence[int | str] | None = None,
        where: pyarrow.compute.Expression | None = None,
        rescore: int | None = None,
        vectors: np.ndarray | None = None,
        metric: str = "inner_product",
    ) -> SearchResult:
        """The ``k`` nearest items of each query.

        Args:
            queries: packed codes uint8 ``(n, bytes)``; or ``(n, v, bytes)``, of each query ``v`` variants (flips,
                crops, rotations), where an item's distance is the least of them; or features float ``(n, d)``, which
                the hasher beside the index encodes.
            k: 1 to the number of items.
            ids, label, where: which items may be answered, see :class:`dshc.index.Filter`.
            rescore: order the ``rescore * k`` nearest by ``vectors`` instead.
            vectors: float ``(n, dimensions)``, of the queries; by default the features that were given as queries.
            metric: of the vectors: ``"inner_product"``, ``"cosine"`` (largest first) or ``"l2"`` (squared, smallest
                first); ties by distance of codes, then order.

        Raises:
            TypeError, InputError: naming the argument that does not fit.
        """
        self._check_open()
        codes, n_variants = self._query_codes(queries)
        if rescore is not None and vectors is None and _are_features(queries):
            vectors = queries
        self._check_k(k)
        n_query = len(codes) // n_variants
        asked = rescoring.check(rescore, vectors, metric, n_query, self.layout)
        masks = Filter(ids, label, where).masks(self._parts, self.layout)
        fetched = int(k) if asked is None else min(int(k) * asked.factor, len(self))
        distances, positions = self._search.topk(codes, fetched, masks)
        if n_variants > 1:
            distances, positions = nearest_variants(distances, positions, n_variants, fetched)
        if asked is not None:
            distances, positions = asked.best(self._search, positions, int(k))
        return SearchResult(distances, self._ids_at(positions))

    def search_outputs(
        self,
        outputs: np.ndarray,
        k: int,
        *,
        ids: Any = None,
        label: int | str | Sequence[int | str] | None = None,
        where: pyarrow.compute.Expression | None = None,
    ) -> SearchResult:
        """The ``k`` nearest items by real-valued outputs of the queries: finer than by their codes, without vectors.

        ``outputs``: floats ``(n, bits)``, whose signs would be the codes (``Hasher.outputs`` of a method whose code is
        the sign of its outputs). The distance of an item is the sum of the outputs' sizes where its bits are not their
        signs (:func:`dshc_fast.asymmetric_topk`). Filters and errors as in :meth:`search`.
        """
        self._check_open()
        if self.score != "hamming":
            raise InputError(
                "outputs must be ranked against codes by Hamming distance, this index ranks by overlap"
            )
        outputs = np.asarray(outputs)
        if outputs.dtype.kind != "f" or outputs.ndim != 2 or outputs.shape[1] != self.n_bits:
            raise InputError(
                f"outputs must be floats of shape (n, {self.n_bits}), got {outputs.dtype} {outputs.shape}"
            )
        self._check_k(k)
        masks = Filter(ids, label, where).masks(self._parts, self.layout)
        distances, positions = self._search.asymmetric(outputs, int(k), masks)
        return SearchResult(distances, self._ids_at(positions))

    def radius(
        self,
        queries: np.ndarray,
        radius: int,
        *,
        ids: Any = None,
        label: int | str | Sequence[int | str] | None = None,
        where: pyarrow.compute.Expression | None = None,
    ) -> RadiusResult:
        """All items within ``radius`` of each query (overlap: that share so many bits at least); see :meth:`search`."""
        self._check_open()
        codes, n_variants = self._query_codes(queries)
        masks = Filter(ids, label, where).masks(self._parts, self.layout)
        offsets, distances, positions = self._search.radius(codes, radius, masks)
        if n_variants > 1:
            offsets, distances, positions = within_of_variants(offsets, distances, positions, n_variants)
        return RadiusResult(offsets, self._ids_at(positions), distances)

    def sample(self, n: int, *, seed: int | None = None) -> np.ndarray:
        """The ids of ``n`` items drawn at random, each once, or of all where there are fewer; in their order."""
        self._check_open()
        if n < 0:
            raise InputError(f"n must be at least 0, got {n}")
        drawn = np.random.default_rng(seed).choice(len(self), min(n, len(self)), replace=False, shuffle=False)
        ranks = np.sort(drawn).astype(np.int64)  # among the items, the removed ones left out
        firsts = np.cumsum([0, *map(len, self._parts)])
        found = []
        for part, first, stop in zip(self._parts, firsts[:-1], firsts[1:], strict=True):
            own = ranks[np.searchsorted(ranks, first) : np.searchsorted(ranks, stop)] - first
            found.append(part.ids.take(own if part.is_live is None else np.flatnonzero(part.is_live)[own]))
        return np.concatenate(found) if found else self._ids_at(np.empty(0, np.int64))

    # By the hasher beside it

    def add_images(self, source: str | os.PathLike[str], *, overwrite: bool = False) -> Added:
        """Encode the images of a folder, a list or a Parquet file and add them, by their names as ids.

        Some thousands at a time: after an interruption the same call goes on. See :func:`dshc.index.add_source`.
        """
        self._check_writable()
        return add_source(self, read_source(self, os.fspath(source)), overwrite=overwrite)

    def add_embeddings(
        self, features: np.ndarray, ids: Any = None, *, labels: Any = None, metadata: Any = None
    ) -> np.ndarray:
        """Encode features, float ``(n, d)``, and add them; returns their ids. An index with vectors keeps them too."""
        self._check_writable()
        codes = self.hasher.encode(features)
        vectors = None if self.layout.vectors == "none" else features
        return self.add(codes, ids, labels=labels, vectors=vectors, metadata=metadata)

    # Pieces of the above

    def _checked(self, codes: Any, ids: Any, labels: Any, vectors: Any, metadata: Any) -> NewItems:
        return NewItems.check(
            self.layout,
            codes,
            ids,
            labels=labels,
            vectors=vectors,
            metadata=metadata,
            next_id=self._manifest.next_id,
        )

    def _commit(self, items: NewItems | None, removed: dict[int, np.ndarray]) -> None:
        if removed or (items is not None and items.n_items):
            with _naming(self.path):
                self._publish(
                    changes.changed(
                        self.path / PARTS, self._manifest, self._parts, items, removed, self._disk
                    )
                )

    def _check_k(self, k: object) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise TypeError(f"k must be an int, got {type(k).__name__}")
        if not 1 <= k <= len(self):
            raise InputError(f"k must be between 1 and {len(self)} (the items of the index), got {k}")

    def _query_codes(self, queries: Any) -> tuple[np.ndarray, int]:
        """Codes of all queries, and how many variants each has."""
        if _are_features(queries):
            return self.hasher.encode(queries), 1
        if getattr(queries, "ndim", 0) != 3:
            return checked_codes(queries, self.layout, "queries"), 1
        if self.score != "hamming":
            raise InputError(
                "variants of a query must be ranked by Hamming distance, this index ranks by overlap"
            )
        n_query, n_variants, n_bytes = queries.shape
        if n_variants < 1:
            raise InputError(f"queries must have at least one variant each, got shape {queries.shape}")
        return checked_codes(queries.reshape(-1, n_bytes), self.layout, "queries"), n_variants


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk says so without a name; which index met it is what a reader wants to know."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _are_features(queries: Any) -> bool:
    return isinstance(queries, np.ndarray) and queries.dtype.kind == "f" and queries.ndim == 2


def _ids_of(items: NewItems) -> Any:
    ids = items.ids.take(np.arange(items.n_items))
    return ids.tolist() if ids.dtype == object else ids


def _by_part(numbers: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """The rows by the number of their part, sorted; those that no part has are passed over."""
    return {int(number): np.unique(rows[numbers == number]) for number in np.unique(numbers[numbers >= 0])}
