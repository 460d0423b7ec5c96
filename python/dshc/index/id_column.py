"""Ids of the items of a part, and the sorted keys by which an item is found without reading them all.

An int64 id is its own key; of a text the key is 64 bits of its BLAKE2b hash, and the text decides. Ascending ids need
no keys beside them, and ids that count on (``first``, ``first + 1``, ...) are not even stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["IdColumn", "TextColumn", "Wanted", "is_ascending", "keys_of_texts", "merged_keys", "row_dtype"]

_SAMPLED = 1 << 18  # keys between two places where a merge may be cut
_TEXTS = 1 << 16  # texts that are handled at a time


def keys_of_texts(ids: Sequence[str]) -> np.ndarray:
    """uint64 ``(n,)``."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ids)
    return np.frombuffer(joined, "<u8").astype(np.uint64)


def is_ascending(ids: np.ndarray) -> bool:
    """Whether each int64 is larger than the one before; compared, for a difference may leave int64."""
    blocks = range(0, len(ids), _SAMPLED)
    return all(
        bool((ids[at + 1 : at + _SAMPLED + 1] > ids[at : at + _SAMPLED][: len(ids) - 1 - at]).all())
        for at in blocks
    )


def row_dtype(n_items: int) -> str:
    return "uint32" if n_items <= 1 << 32 else "uint64"


class Wanted:
    """Ids that are looked up, with their keys: int64 ``(n,)``, or a list of texts."""

    def __init__(self, ids: np.ndarray | Sequence[str], keys: np.ndarray | None = None) -> None:
        self.ids = ids if isinstance(ids, np.ndarray) else np.array(ids, object)
        if keys is None:
            keys = keys_of_texts(ids) if self.ids.dtype == object else self.ids  # type: ignore[arg-type]
        self.keys = keys

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: np.ndarray) -> Wanted:
        return Wanted(self.ids[places], self.keys[places])


class _Counting:
    """The ids ``first, first + 1, ...``, read as an array would be."""

    def __init__(self, first: int, n: int) -> None:
        self.first, self.n = first, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.n)
            return np.arange(self.first + start, self.first + stop, dtype=np.int64)
        return self.first + np.asarray(rows, np.int64)


class IdColumn:
    """int64 ids.

    ``values`` ``(n,)``; where they do not ascend also ``keys``, them sorted, and ``rows``, where each stands.
    """

    def __init__(
        self,
        values: np.ndarray | _Counting,
        keys: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.values, self._keys, self._rows = values, keys, rows

    @classmethod
    def counting(cls, first: int, n: int) -> IdColumn:
        return cls(_Counting(first, n))

    @property
    def first(self) -> int | None:
        """Of ids that count on, else None."""
        return self.values.first if isinstance(self.values, _Counting) else None

    @property
    def ascending(self) -> bool:
        return self._keys is None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def sound(self) -> bool:
        """Whether ids without keys do ascend: those 2^63 apart and more once did not. Reads them all."""
        return not self.ascending or isinstance(self.values, _Counting) or is_ascending(self.values)

    def mended(self) -> IdColumn:
        """With the keys that it lacks, if it lacks them."""
        if self.sound:
            return self
        values = np.asarray(self.values)
        order = np.argsort(values, kind="stable")
        return IdColumn(values, values[order], order.astype(row_dtype(len(values))))

    def take(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.values[rows], np.int64)

    def keys(self, start: int, stop: int) -> np.ndarray:
        """Sorted keys from place ``start`` to ``stop``."""
        return np.asarray(self.values[start:stop] if self._keys is None else self._keys[start:stop])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The rows of these keys."""
        return np.arange(start, stop) if self._rows is None else self._rows[start:stop].astype(np.int64)

    def place(self, keys: np.ndarray) -> np.ndarray:
        """The first place whose key is not smaller, for each key."""
        if isinstance(self.values, _Counting):  # the difference may leave int64
            first, n = self.values.first, self.values.n
            return np.clip(keys, first, first + n).astype(np.int64) - first
        return np.searchsorted(self.values if self._keys is None else self._keys, keys)

    def find(self, wanted: Wanted) -> np.ndarray:
        """The row of each id, -1 where there is none."""
        places = self.place(wanted.keys)
        found = np.full(len(wanted), -1, np.int64)
        inside = np.flatnonzero(places < len(self))
        at = places[inside]
        keys = self.values[at] if self._keys is None else self._keys[at]
        same = keys == wanted.keys[inside]
        found[inside[same]] = at[same] if self._rows is None else self._rows[at[same]]
        return found


class TextColumn:
    """Ids that are text: UTF-8 ``text``, ``offsets`` int64 ``(n + 1,)``, sorted ``keys`` and their ``rows``."""

    def __init__(self, text: np.ndarray, offsets: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> None:
        self.text, self.offsets = text, offsets
        self._keys, self._rows = keys, rows

    first = None
    ascending = False
    sound = True

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows), object)
        for i, row in enumerate(np.asarray(rows).tolist()):
            found[i] = self._one(row)
        return found

    def keys(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self._keys[start:stop])

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self._rows[start:stop].astype(np.int64)

    def place(self, keys: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._keys, keys)

    def find(self, wanted: Wanted) -> np.ndarray:
        """The row of each id, -1 where there is none."""
        places = self.place(wanted.keys)
        found = np.full(len(wanted), -1, np.int64)
        inside = np.flatnonzero(places < len(self))
        same = inside[self._keys[places[inside]] == wanted.keys[inside]]
        for i, place in zip(same.tolist(), places[same].tolist(), strict=True):
            key = wanted.keys[i]
            while place < len(self) and self._keys[place] == key:  # two texts may share a key
                if self._one(row := int(self._rows[place])) == wanted.ids[i]:
                    found[i] = row
                place += 1
        return found

    def _one(self, row: int) -> str:
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()


def merged_keys(
    columns: Sequence[IdColumn | TextColumn], removed: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sorted keys and rows of columns written one behind the other without their ``removed`` rows, block by block.

    The ids of the columns that stay must differ. No more than some blocks of keys are in memory.
    """
    kept = [len(column) - len(gone) for column, gone in zip(columns, removed, strict=True)]
    base = np.cumsum([0, *kept])
    samples = [column.keys(at, at + 1) for column in columns for at in range(0, len(column), _SAMPLED)]
    cuts = np.unique(np.concatenate(samples))[1:] if samples else np.empty(0)
    starts = [0] * len(columns)
    for number in range(len(cuts) + 1):
        stops = [
            int(column.place(cuts[number : number + 1])[0]) if number < len(cuts) else len(column)
            for column in columns
        ]
        keys, rows = [], []
        for column, gone, first, start, stop in zip(columns, removed, base, starts, stops, strict=False):
            own, mine = column.keys(start, stop), column.rows(start, stop)
            if len(gone):
                before = np.searchsorted(gone, mine)
                stays = (before == len(gone)) | (gone[np.minimum(before, len(gone) - 1)] != mine)
                own, mine = own[stays], (mine - before)[stays]
            keys.append(own)
            rows.append(first + mine)
        starts = stops
        found, places = np.concatenate(keys), np.concatenate(rows)
        order = np.argsort(found, kind="stable")
        yield found[order], places[order]
