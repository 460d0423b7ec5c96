"""A part of an index, opened: its arrays are maps of files, of which only what is asked for is read."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..storage.disk import Disk
from .id_column import IdColumn, TextColumn, Wanted, merged_keys, row_dtype
from .layout import Layout
from .manifest import Part, PartFile
from .new_items import NewItems, pyarrow_of_metadata
from .part_files import Column, map_arrays, map_bytes, write_arrays, write_file

if TYPE_CHECKING:
    import pyarrow

__all__ = ["OpenPart", "write_part", "write_removed"]

_BLOCK = 1 << 16  # rows that are copied at a time
_NO_ROWS = np.empty(0, np.int64)


class OpenPart:
    """Attributes: ``folder`` of its files; ``part``, its entry in the manifest; ``ids``; ``arrays`` by name (``codes``,
    ``labels``, ``vectors``, ``vector_scales``); ``removed``, int64, the sorted rows that are no items any more."""

    def __init__(self, folder: Path, part: Part, layout: Layout) -> None:
        """Map its files; raises ``FileNotFoundError``, or ``ValueError`` naming the one that is damaged."""
        self.folder, self.part, self.layout = folder, part, layout
        path = folder / part.arrays.name
        arrays, about = map_arrays(path, part.arrays)
        try:
            self.ids = _ids(arrays, about, part.n_items)
            self.arrays = {
                name: arrays[name]
                for name in ("codes", "labels", "vectors", "vector_scales")
                if name in arrays
            }
            lengths = {name: len(array) for name, array in self.arrays.items()} | {"ids": len(self.ids)}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged, it lacks {error}") from None
        for name, length in lengths.items():
            if length != part.n_items:
                raise ValueError(f"{path}: damaged, {name} must have {part.n_items} rows, got {length}")
        self._metadata = (
            None if part.metadata is None else map_bytes(folder / part.metadata.name, part.metadata)
        )
        self.removed = _NO_ROWS
        if part.removed is not None:
            self.removed = _removed(folder / part.removed.name, part)

    def __len__(self) -> int:
        return self.part.n_live

    @functools.cached_property
    def is_live(self) -> np.ndarray | None:
        """bool ``(n_items,)``; None where nothing was removed."""
        if not len(self.removed):
            return None
        live = np.ones(self.part.n_items, bool)
        live[self.removed] = False
        return live

    @functools.cached_property
    def metadata(self) -> pyarrow.Table:
        pa = pyarrow_of_metadata()
        return pa.ipc.open_file(pa.py_buffer(self._metadata)).read_all()

    def find(self, wanted: Wanted) -> np.ndarray:
        """The row of each id, -1 where no item of this part has it."""
        rows = self.ids.find(wanted)
        if len(self.removed):
            places = np.searchsorted(self.removed, rows)
            inside = places < len(self.removed)
            rows[inside & (self.removed[np.minimum(places, len(self.removed) - 1)] == rows)] = -1
        return rows


def _removed(path: Path, part: Part) -> np.ndarray:
    assert part.removed is not None
    rows = map_arrays(path, part.removed)[0].get("rows", _NO_ROWS)
    if rows.dtype != np.int64 or rows.shape != (part.n_removed,):
        raise ValueError(
            f"{path}: damaged, it must hold {part.n_removed} rows, got {rows.dtype} {rows.shape}"
        )
    return rows


def _ids(arrays: dict[str, np.ndarray], about: dict[str, str], n: int) -> IdColumn | TextColumn:
    if "first_id" in about:
        return IdColumn.counting(int(about["first_id"]), n)
    if "ids_text" in arrays:
        return TextColumn(arrays["ids_text"], arrays["ids_offsets"], arrays["id_keys"], arrays["id_rows"])
    return IdColumn(arrays["ids"], arrays.get("id_keys"), arrays.get("id_rows"))


def write_part(
    folder: Path, name: str, sources: Sequence[OpenPart | NewItems], layout: Layout, disk: Disk
) -> Part:
    """Write the items of ``sources``, one behind the other and without those that were removed, as a new part."""
    removed = [source.removed if isinstance(source, OpenPart) else _NO_ROWS for source in sources]
    sizes = [len(source.ids) - len(gone) for source, gone in zip(sources, removed, strict=True)]
    n = sum(sizes)
    columns = []
    for array in sources[0].arrays:
        first = sources[0].arrays[array]

        def blocks(array: str = array) -> Iterator[np.ndarray]:
            for source, gone in zip(sources, removed, strict=True):
                for rows in _kept(len(source.ids), gone):
                    yield source.arrays[array][rows]

        columns.append(Column(array, first.dtype.name, (n, *first.shape[1:]), blocks))
    more, about = _id_columns(sources, removed, n)
    arrays = write_arrays(folder / f"{name}.safetensors", [*columns, *more], about, disk)
    metadata = None
    if layout.metadata:
        try:
            metadata = _write_metadata(folder / f"{name}.arrow", sources, removed, disk)
        except BaseException:
            disk.remove(folder / arrays.name)
            raise
    return Part(name, n, arrays, metadata)


def write_removed(folder: Path, name: str, rows: np.ndarray, disk: Disk) -> PartFile:
    """Write the sorted rows of a part that are no items any more."""
    return write_arrays(folder / f"{name}.safetensors", [Column.of("rows", rows.astype(np.int64))], {}, disk)


def _kept(n: int, removed: np.ndarray) -> Iterator[slice | np.ndarray]:
    """The rows that stay, in blocks."""
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        first, last = np.searchsorted(removed, (start, stop))
        if first == last:
            yield slice(start, stop)
        else:
            live = np.ones(stop - start, bool)
            live[removed[first:last] - start] = False
            yield start + np.flatnonzero(live)


def _id_columns(
    sources: Sequence[OpenPart | NewItems], removed: Sequence[np.ndarray], n: int
) -> tuple[list[Column], dict[str, str]]:
    ids = [source.ids.mended() if isinstance(source.ids, IdColumn) else source.ids for source in sources]
    rows = row_dtype(n)
    keys = [
        Column("id_keys", "int64", (n,), lambda: (keys for keys, _ in merged_keys(ids, removed))),
        Column("id_rows", rows, (n,), lambda: (places for _, places in merged_keys(ids, removed))),
    ]
    if isinstance(ids[0], TextColumn):
        keys[0] = Column("id_keys", "uint64", (n,), keys[0].blocks)
        return [*_text_columns(ids, removed, n), *keys], {}  # type: ignore[arg-type]
    first, last = None, None
    counting = ascending = True
    for column, gone in zip(ids, removed, strict=True):
        if len(column) == len(gone):
            continue
        lowest, highest = _ends(column, gone)
        counting &= column.first is not None and not len(gone) and last in (None, lowest - 1)
        ascending &= column.ascending and (last is None or last < lowest)
        first, last = lowest if first is None else first, highest
    if counting:
        return [], {"first_id": str(0 if first is None else first)}

    def values() -> Iterator[np.ndarray]:
        for column, gone in zip(ids, removed, strict=True):
            for kept in _kept(len(column), gone):
                yield column.take(np.arange(kept.start, kept.stop) if isinstance(kept, slice) else kept)

    return [Column("ids", "int64", (n,), values), *([] if ascending else keys)], {}


def _ends(column: IdColumn, removed: np.ndarray) -> tuple[int, int]:
    """The first and the last id that stay."""
    rows = [
        next(_kept_rows(range(len(column)), removed)),
        next(_kept_rows(range(len(column) - 1, -1, -1), removed)),
    ]
    first, last = column.take(np.array(rows)).tolist()
    return first, last


def _kept_rows(rows: range, removed: np.ndarray) -> Iterator[int]:
    for row in rows:
        place = int(np.searchsorted(removed, row))
        if place == len(removed) or removed[place] != row:
            yield row


def _text_columns(ids: Sequence[TextColumn], removed: Sequence[np.ndarray], n: int) -> list[Column]:
    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each block of rows the text and the lengths."""
        for column, gone in zip(ids, removed, strict=True):
            for kept in _kept(len(column), gone):
                if isinstance(kept, slice):
                    offsets = np.asarray(column.offsets[kept.start : kept.stop + 1])
                    yield column.text[offsets[0] : offsets[-1]], np.diff(offsets)
                else:
                    encoded = [text.encode() for text in column.take(kept)]
                    yield (
                        np.frombuffer(b"".join(encoded), np.uint8),
                        np.array([len(text) for text in encoded]),
                    )

    def offsets() -> Iterator[np.ndarray]:
        yield np.zeros(1, np.int64)
        before = 0
        for _, lengths in pieces():
            ends = before + np.cumsum(lengths)
            before = int(ends[-1]) if len(ends) else before
            yield ends

    total = sum(int(lengths.sum()) for _, lengths in pieces())
    return [
        Column("ids_text", "uint8", (total,), lambda: (text for text, _ in pieces())),
        Column("ids_offsets", "int64", (n + 1,), offsets),
    ]


def _write_metadata(
    path: Path, sources: Sequence[OpenPart | NewItems], removed: Sequence[np.ndarray], disk: Disk
) -> PartFile:
    pa = pyarrow_of_metadata()
    schema = next(source.metadata.schema for source in sources if source.metadata is not None)
    pieces: list[bytes] = []

    class Sink:
        closed = False

        def write(self, data: bytes) -> int:
            pieces.append(bytes(data))
            return len(data)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    def written() -> Iterator[bytes]:
        sink = pa.PythonFile(Sink(), mode="w")
        writer = pa.ipc.new_file(sink, schema)
        for source, gone in zip(sources, removed, strict=True):
            for kept in _kept(len(source.ids), gone):
                table = source.metadata
                rows = (
                    table.slice(kept.start, kept.stop - kept.start)
                    if isinstance(kept, slice)
                    else table.take(kept)
                )
                writer.write_table(rows)
                yield from _drained(pieces)
        writer.close()
        yield from _drained(pieces)

    return write_file(path, written(), disk)


def _drained(pieces: list[bytes]) -> Iterator[bytes]:
    while pieces:
        yield pieces.pop(0)
