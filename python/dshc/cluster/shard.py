"""One shard, opened where its files lie: a code file or an index, mapped into memory, ranked by itself."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dshc_fast

from ..errors import InputError
from ..index.filters import Filter
from ..index.id_column import IdColumn, TextColumn, Wanted, keys_of_texts
from ..index.index_folder import PARTS
from ..index.layout import Layout
from ..index.manifest import Manifest, Part, PartFile, read_manifest
from ..index.part_files import map_arrays, verify
from ..index.part_search import PartSearch
from ..index.parts import OpenPart
from ..storage import CodeFile
from ..storage.code_files import CODE_KIND, CODE_VERSION
from .shard_items import Kept, kept_of, located

__all__ = ["OpenShard", "ShardFacts"]

_CHUNK = 1 << 20
"""Items that are counted or handled at a time."""


@dataclass(frozen=True)
class ShardFacts:
    """What an opened shard is.

    Fields: ``path``; ``n_items``; ``n_bits``; ``score``; ``model`` and ``class_names``, empty where not known;
    ``labels``, ``"none"``, ``"ids"`` or ``"multi-hot"``; ``has_ids``, whether its items bear ids; ``identity``, equal
    only for equal content; ``ids``, ``"text"`` or ``"int64"``; ``metadata``, columns and Arrow types; ``precision``
    within each radius, empty where it was not measured.
    """

    path: str
    n_items: int
    n_bits: int
    score: str
    model: str
    class_names: tuple[str, ...]
    labels: str
    has_ids: bool
    identity: str
    ids: str = "int64"
    metadata: tuple[tuple[str, str], ...] = ()
    precision: tuple[float, ...] = ()


class OpenShard:
    """Answers about the items of one shard; rows count its live items from 0.

    ``path``: a code file or the folder of an index. Opening reads headers and compares sizes; ``check`` reads all and
    compares checksums too.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError, InputError: neither a code file nor an index, a damaged one, or one without items; it is named.
    """

    def __init__(self, path: str, *, check: bool = False) -> None:
        where = Path(path)
        ids, metadata, precision = "int64", (), ()
        if where.is_dir():
            self._parts, manifest, identity, has_ids = _of_index(where, check)
            layout, precision = manifest.layout, manifest.precision
            n_bits, score, model = layout.n_bits, layout.score, layout.model
            labels, names = layout.labels, layout.class_names
            ids, metadata = layout.ids, layout.metadata
        else:
            part, about = _of_file(where, check)
            self._parts, identity, has_ids = [part], about["sha256"], part.texts is not None
            n_bits, score, model = int(about["n_bits"]), about["score"], about["model"]
            names = tuple(_json(where, about["class_names"]))
            found = part.arrays.get("labels")
            labels = "none" if found is None else "ids" if found.ndim == 1 else "multi-hot"
            ids = "text" if has_ids else ids
        removed, start = [np.empty(0, np.int64)], 0
        for part in self._parts:
            removed.append(part.removed + start)
            start += part.part.n_items
        self._removed = np.concatenate(removed)
        n_items = start - len(self._removed)
        if not n_items:
            raise InputError(f"{path}: must hold at least one item, got none")
        self.facts = ShardFacts(
            str(path),
            n_items,
            n_bits,
            score,
            model,
            names,
            labels,
            has_ids,
            identity,
            ids,
            metadata,
            precision,
        )
        self._searches: dict[str, PartSearch] = {}

    def topk(
        self, queries: np.ndarray, k: int, score: str, only: Filter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distances int32 and rows int64 ``(n_query, min(k, n_items))`` of the best, of those that ``only`` lets
        through; filled up as :func:`dshc_fast.hamming_topk` does it."""
        k = min(k, self.facts.n_items)
        masks = self._masks() if only is None else only.masks(self._parts, self._layout)
        distances, positions = self._search(score).topk(queries, k, masks)
        return distances, self._rows(positions)

    def radius(
        self, queries: np.ndarray, radius: int, score: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets ``(n_query + 1,)``, rows int64 and distances int32 of all within the radius."""
        offsets, distances, positions = self._search(score).radius(queries, radius, self._masks())
        return offsets, self._rows(positions), distances

    def histogram(self, queries: np.ndarray, labels: np.ndarray, score: str) -> tuple[np.ndarray, np.ndarray]:
        """Items and relevant items at each distance, int64 ``(n_query, n_bits + 1)``."""
        items = np.zeros((len(queries), self.facts.n_bits + 1), np.int64)
        relevant = np.zeros_like(items)
        for part, start, stop in self._slices():
            own = part.arrays["labels"][start:stop]
            counts = dshc_fast.hamming_histogram(
                queries,
                part.arrays["codes"][start:stop],
                labels,
                own.astype(np.int64) if own.ndim == 1 else own,
                score=score,
                n_bits=self.facts.n_bits,
                allowed=None if part.is_live is None else part.is_live[start:stop],
            )
            items += counts.items
            relevant += counts.relevant
        return items, relevant

    def ids(self, rows: np.ndarray) -> np.ndarray:
        """The ids of rows, int64 or objects (text)."""
        live = self._live_positions(rows)
        starts = np.cumsum([0, *(part.part.n_items for part in self._parts)])
        number = np.searchsorted(starts, live, side="right") - 1
        found = np.empty(len(rows), object)
        for i in np.unique(number).tolist():
            places = np.flatnonzero(number == i)
            for place, id in zip(
                places.tolist(), self._parts[i].ids.take(live[places] - starts[i]), strict=True
            ):
                found[place] = id
        return found

    def find(self, ids: np.ndarray | list[str]) -> np.ndarray:
        """The row of each id, int64, -1 where no item of the shard has it; without ids an item's row is its id."""
        numbers, rows = located(self._parts, ids)
        starts = np.cumsum([0, *(part.part.n_items for part in self._parts)])
        return np.where(numbers < 0, -1, self._rows(starts[numbers] + rows))

    def kept(self, rows: np.ndarray, details: frozenset[str]) -> Kept:
        """Ids of rows, and ``details`` of them, of ``code``, ``label`` and ``metadata``."""
        return kept_of(self._parts, self._layout, self._live_positions(rows), details)

    def id_keys(self, low: int, high: int) -> np.ndarray:
        """Keys of the ids, uint64, that lie from ``low`` to below ``high``: an id has the same in every shard."""
        found = [np.empty(0, np.uint64)]
        for part, start, stop in self._slices():
            rows = np.arange(start, stop)
            if part.is_live is not None:
                rows = rows[part.is_live[start:stop]]
            keys = keys_of_texts([str(id) for id in part.ids.take(rows).tolist()])
            found.append(keys[(keys >= np.uint64(low)) & (keys <= np.uint64(high - 1))])
        return np.concatenate(found)

    def id_of_key(self, key: int) -> str:
        """The id that has a key; empty where none has."""
        for part, start, stop in self._slices():
            ids = [str(id) for id in part.ids.take(np.arange(start, stop)).tolist()]
            if len(places := np.flatnonzero(keys_of_texts(ids) == np.uint64(key))):
                return ids[places[0]]
        return ""

    @functools.cached_property
    def _layout(self) -> Layout:
        facts = self.facts
        return Layout(
            facts.n_bits,
            facts.score,
            facts.ids,
            facts.labels,
            facts.class_names if facts.labels != "none" else (),
            metadata=facts.metadata,
            model=facts.model,
        )

    def _search(self, score: str) -> PartSearch:
        if (
            score not in self._searches
        ):  # memory=0: codes stay in the map, which all processes of a machine share
            self._searches[score] = PartSearch(self._parts, score, memory=0)
        return self._searches[score]

    def _masks(self) -> list[np.ndarray | None]:
        return [part.is_live for part in self._parts]

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        """Rows among the live items; -1 stays."""
        return positions - np.searchsorted(self._removed, positions) * (positions >= 0)

    def _live_positions(self, rows: np.ndarray) -> np.ndarray:
        """The positions of rows: each is the row and the number of removed items before it."""
        before = self._removed - np.arange(len(self._removed))  # live items before each removed one
        return rows + np.searchsorted(before, rows, side="right")

    def _slices(self) -> Iterator[tuple[Any, int, int]]:
        for part in self._parts:
            for start in range(0, part.part.n_items, _CHUNK):
                yield part, start, min(start + _CHUNK, part.part.n_items)


class _FilePart:
    """A code file, read as a part of an index is."""

    removed = np.empty(0, np.int64)
    is_live = None

    def __init__(self, part: Part, arrays: dict[str, np.ndarray]) -> None:
        self.part, self.arrays = part, arrays
        self.texts = arrays.get("ids")

    @functools.cached_property
    def ids(self) -> IdColumn | TextColumn:
        """Ids as text, or the rows where the file has none. Text is looked up by keys, which the file does not hold:
        they are made, and sorted, when an id is first looked up."""
        if self.texts is None:
            return IdColumn.counting(0, self.part.n_items)
        nothing = np.empty(0, np.uint64)
        return TextColumn(self.texts, self.arrays["ids_offsets"], nothing, nothing)

    @functools.cached_property
    def _by_key(self) -> IdColumn | TextColumn:
        if self.texts is None:
            return self.ids
        keys = [np.empty(0, np.uint64)]
        for start in range(0, self.part.n_items, _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, self.part.n_items))
            keys.append(keys_of_texts(self.ids.take(rows).tolist()))
        all_keys = np.concatenate(keys)
        order = np.argsort(all_keys, kind="stable")
        return TextColumn(self.texts, self.arrays["ids_offsets"], all_keys[order], order)

    def find(self, wanted: Wanted) -> np.ndarray:
        """The row of each id, -1 where no item has it."""
        return self._by_key.find(wanted)


def _of_file(path: Path, check: bool) -> tuple[_FilePart, dict[str, str]]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if check:
        CodeFile.load(path)
    size = path.stat().st_size
    arrays, about = map_arrays(path, PartFile(path.name, size, ""))
    if about.get("kind") != CODE_KIND or about.get("version") != CODE_VERSION:
        raise InputError(f"{path}: must be a code file (version {CODE_VERSION}) or the folder of an index")
    try:
        codes, width = arrays["codes"], (int(about["n_bits"]) + 7) // 8
        about["score"], about["model"], about["class_names"], about["sha256"]  # noqa: B018 - which it must have
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged, it lacks {error}") from None
    if about.get("bit_order") != "little" or codes.ndim != 2 or codes.shape[1] != width:
        raise ValueError(
            f"{path}: damaged, it must hold codes of {width} bytes in bit order 'little', got shape {codes.shape} and "
            f"{about.get('bit_order')!r}"
        )
    for name, rows in (("labels", len(codes)), ("ids_offsets", len(codes) + 1)):
        if name in arrays and len(arrays[name]) != rows:
            raise ValueError(f"{path}: damaged, {name} must have {rows} rows, got {len(arrays[name])}")
    return _FilePart(Part(path.name, len(codes), PartFile(path.name, size, "")), arrays), about


def _of_index(path: Path, check: bool) -> tuple[list[OpenPart], Manifest, str, bool]:
    manifest = read_manifest(path)
    try:
        parts = [OpenPart(path / PARTS, part, manifest.layout) for part in manifest.parts]
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: damaged, it is missing") from None
    if check:
        for part in manifest.parts:
            for file in part.files:
                verify(path / PARTS, file)
    identity = hashlib.sha256(repr(manifest.parts).encode()).hexdigest()
    return parts, manifest, identity, True


def _json(path: Path, text: str) -> list[str]:
    try:
        return list(json.loads(text))
    except ValueError:
        raise ValueError(f"{path}: damaged, its class names cannot be read") from None
