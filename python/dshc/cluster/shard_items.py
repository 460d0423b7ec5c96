"""What a shard keeps of its items: looked up by their ids, told by their positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..index.id_column import Wanted
from ..index.layout import Layout
from ..index.new_items import schema_of

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Kept", "joined", "kept_of", "located"]


class Kept(NamedTuple):
    """``ids`` of items, int64 or objects (text); ``codes`` uint8 ``(n, bytes)``, ``labels`` int64, ``(n,)`` or
    ``(n, n_labels)``, ``metadata`` an Arrow table; None for what was not asked for, or is not kept."""

    ids: np.ndarray
    codes: np.ndarray | None
    labels: np.ndarray | None
    metadata: pyarrow.Table | None


def located(parts: Sequence[Any], ids: np.ndarray | list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The number of the part and the row of each id, -1 where no item has it."""
    wanted = Wanted(ids)
    numbers, rows = np.full(len(wanted), -1, np.int64), np.full(len(wanted), -1, np.int64)
    left = np.arange(len(wanted))
    for number in reversed(range(len(parts))):
        found = parts[number].find(wanted.take(left))
        here = found >= 0
        numbers[left[here]], rows[left[here]] = number, found[here]
        left = left[~here]
    return numbers, rows


def kept_of(parts: Sequence[Any], layout: Layout, positions: np.ndarray, details: frozenset[str]) -> Kept:
    """What is kept of the items at these positions, which count over all parts."""
    n = len(positions)
    ids = np.empty(n, object if layout.ids == "text" else np.int64)
    codes = np.empty((n, layout.n_bytes), np.uint8) if "code" in details else None
    labels = None
    if "label" in details and layout.labels != "none":
        labels = np.empty((n,) if layout.labels == "ids" else (n, layout.n_labels), np.int64)
    starts = np.cumsum([0, *(part.part.n_items for part in parts)])
    numbers = np.searchsorted(starts, positions, side="right") - 1
    tables, order = [], [np.empty(0, np.int64)]
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        part, rows = parts[number], positions[places] - starts[number]
        ids[places] = part.ids.take(rows)
        if codes is not None:
            codes[places] = part.arrays["codes"][rows]
        if labels is not None:
            labels[places] = part.arrays["labels"][rows]
        if "metadata" in details and layout.metadata:
            tables.append(part.metadata.take(rows))
            order.append(places)
    metadata = None
    if "metadata" in details and layout.metadata:
        metadata = _in_order(tables, np.concatenate(order), layout)
    return Kept(ids, codes, labels, metadata)


def joined(parts: Sequence[tuple[np.ndarray, Kept]], n: int, layout: Layout, details: frozenset[str]) -> Kept:
    """Answers of several shards as one of ``n`` items; with each stands which of the items it is of."""
    ids = np.empty(n, object if layout.ids == "text" else np.int64)
    codes = np.zeros((n, layout.n_bytes), np.uint8) if "code" in details else None
    labels = None
    if "label" in details and layout.labels != "none":
        labels = np.empty((n,) if layout.labels == "ids" else (n, layout.n_labels), np.int64)
    for places, kept in parts:
        ids[places] = kept.ids
        if codes is not None:
            codes[places] = kept.codes
        if labels is not None:
            labels[places] = kept.labels
    metadata = None
    if "metadata" in details and layout.metadata:
        order = np.concatenate([np.empty(0, np.int64), *(places for places, _ in parts)])
        metadata = _in_order([kept.metadata for _, kept in parts], order, layout)
    return Kept(ids, codes, labels, metadata)


def _in_order(tables: Sequence[pyarrow.Table], places: np.ndarray, layout: Layout) -> pyarrow.Table:
    import pyarrow

    table = pyarrow.concat_tables(tables or [schema_of(layout).empty_table()])
    return table.take(np.argsort(places, kind="stable"))
