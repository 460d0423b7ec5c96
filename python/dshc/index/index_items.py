"""What lies in an index: items by their ids, in their order, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from .id_column import Wanted
from .index_folder import IndexFolder
from .new_items import checked_ids, schema_of
from .parts import OpenPart
from .rescoring import vectors_of

if TYPE_CHECKING:
    import pyarrow

__all__ = ["IndexItems", "Items", "shown"]

_BLOCK = 1 << 16  # ids that are looked up at a time


class Items(NamedTuple):
    """What an index keeps of items, in the order asked for; None for what it does not keep or need not tell."""

    codes: np.ndarray
    labels: np.ndarray | None
    metadata: pyarrow.Table | None
    vectors: np.ndarray | None


class IndexItems(IndexFolder):
    """The items of :class:`dshc.HashIndex`; see there."""

    def __contains__(self, id: object) -> bool:
        return bool(self._places(checked_ids([id], self.layout))[0][0] >= 0)

    def ids(self) -> np.ndarray:
        """The ids of all items in their order, int64 or objects (text)."""
        self._check_open()
        found = [part.ids.take(live_rows(part)) for part in self._parts]
        return np.concatenate(found) if found else self._ids_at(np.empty(0, np.int64))

    def codes(self) -> np.ndarray:
        """The codes of all items in their order, uint8 ``(n, bytes)``; a read-only map where they lie in one piece."""
        return self._all_of("codes", np.empty((0, self.layout.n_bytes), np.uint8))

    def labels(self) -> np.ndarray | None:
        """The labels of all items in their order, as :meth:`get` gives them; None for an index without."""
        if self.layout.labels == "none":
            return None
        shape = (0,) if self.layout.labels == "ids" else (0, self.layout.n_labels)
        return self._all_of("labels", np.empty(shape, np.int64)).astype(np.int64, copy=False)

    def _all_of(self, name: str, nothing: np.ndarray) -> np.ndarray:
        self._check_open()
        parts = [
            part.arrays[name] if part.is_live is None else part.arrays[name][part.is_live]
            for part in self._parts
        ]
        return (
            parts[0]
            if len(parts) == 1
            else np.concatenate([nothing.astype(parts[0].dtype), *parts])
            if parts
            else nothing
        )

    def get(self, ids: Any, *, metadata: bool = True, vectors: bool = True) -> Items:
        """What is kept of these items; without metadata or vectors that nobody asks for, which take the most room.

        Raises :class:`InputError` naming an id that the index does not have.
        """
        self._check_open()
        wanted = checked_ids(ids, self.layout)
        positions = self._positions(wanted)
        layout = self.layout
        codes = np.empty((len(wanted), layout.n_bytes), np.uint8)
        labels = None
        if layout.labels != "none":
            labels = np.empty(
                (len(wanted),) if layout.labels == "ids" else (len(wanted), layout.n_labels), np.int64
            )
        kept = None
        if vectors and layout.vectors != "none":
            kept = np.empty((len(wanted), layout.n_dimensions), np.float32)
        tables, order = [], []
        for places, part, rows in self._search.rows_of(positions):
            codes[places] = part.arrays["codes"][rows]
            if labels is not None:
                labels[places] = part.arrays["labels"][rows]
            if kept is not None:
                kept[places] = vectors_of(part, rows)
            if metadata and layout.metadata:
                tables.append(part.metadata.take(rows))
                order.append(places)
        table = None
        if metadata and layout.metadata:
            import pyarrow

            table = pyarrow.concat_tables(tables or [schema_of(layout).empty_table()])
            table = table.take(np.argsort(np.concatenate([np.empty(0, np.int64), *order]), kind="stable"))
        return Items(codes, labels, table, kept)

    # For those who change or search it

    def _places(self, ids: Any) -> tuple[np.ndarray, np.ndarray]:
        """The number of the part and the row of each id, -1 where no item has it."""
        self._check_open()
        wanted = Wanted(ids)
        numbers, rows = np.full(len(ids), -1, np.int64), np.full(len(ids), -1, np.int64)
        left = np.arange(len(ids))
        for number in reversed(range(len(self._parts))):
            found = self._parts[number].find(wanted.take(left))
            here = found >= 0
            numbers[left[here]], rows[left[here]] = number, found[here]
            left = left[~here]
            if not len(left):
                break
        return numbers, rows

    def _ids_in_blocks(self) -> Iterator[Any]:
        """The ids of all items in their order, some at a time, in the form that :meth:`_places` takes."""
        for part in self._parts:
            rows = live_rows(part)
            for start in range(0, len(rows), _BLOCK):
                ids = part.ids.take(rows[start : start + _BLOCK])
                yield ids.tolist() if ids.dtype == object else ids

    def _positions(self, ids: Any) -> np.ndarray:
        numbers, rows = self._places(ids)
        if (absent := np.flatnonzero(numbers < 0)).size:
            raise InputError(f"ids must be in the index, got {shown(ids[absent[0]])}")
        return self._search.starts[numbers] + rows

    def _ids_at(self, positions: np.ndarray) -> np.ndarray:
        """The ids at these positions, in their shape; -1 or None at position -1."""
        flat = positions.reshape(-1)
        ids = (
            np.full(len(flat), None, object)
            if self.layout.ids == "text"
            else np.full(len(flat), -1, np.int64)
        )
        for places, part, rows in self._search.rows_of(flat):
            ids[places] = part.ids.take(rows)
        return ids.reshape(positions.shape)


def shown(id: object) -> str:
    return repr(id) if isinstance(id, str) else str(id)


def live_rows(part: OpenPart) -> np.ndarray:
    return np.arange(part.part.n_items) if part.is_live is None else np.flatnonzero(part.is_live)
