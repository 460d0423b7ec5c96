"""What goes out: packed codes with their ids and labels, cut into chunks, so that a memory map never comes in
whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..index import HashIndex
from ..storage import CodeFile, describe_label
from ..storage.code_files import MAX_BITS, kind_of

__all__ = ["Chunk", "Exported", "check_ids"]

ROWS = 1 << 16
"""Codes of a chunk."""


@dataclass(frozen=True)
class Chunk:
    """Some rows of an :class:`Exported`, in its order.

    ``codes`` is contiguous uint8 ``(n, n_bytes)``; ``ids`` int64 ``(n,)``, or a list of text; ``labels`` the rows of
    the source's labels, or None; ``stop`` is how many rows there are up to the end of this chunk.
    """

    codes: np.ndarray
    ids: np.ndarray | list[str]
    labels: np.ndarray | None
    stop: int


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Codes to be exported.

    Args:
        codes: packed codes, uint8 ``(n, ceil(n_bits / 8))``, bit ``j`` in byte ``j // 8`` at position ``j % 8``; a
            memory map is read in chunks.
        n_bits: code length.
        ids: what each item is known by, int64 ``(n,)`` or text, no two alike; None: its row number.
        score: the ranking the codes are meant for, ``"hamming"`` or ``"overlap"``.
        labels: class ids, integers ``(n,)``, negative where not known; or multi-hot rows, uint8 ``(n, n_labels)``;
            None: unlabelled.
        class_names: names of the classes or labels; empty: not known.
        model: what made the codes; empty: not known.

    Raises:
        TypeError, InputError: a field of another shape, dtype or range, or an id given twice; the message names it.

    >>> import numpy as np
    >>> len(Exported(codes=np.array([[5], [9]], np.uint8), n_bits=4, ids=("a", "b")))
    2
    """

    codes: np.ndarray
    n_bits: int
    ids: np.ndarray | tuple[str, ...] | None = None
    score: str = "hamming"
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        codes = self.codes
        if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
            raise TypeError(f"codes must be a numpy array of uint8, got {kind_of(codes)}")
        if not 1 <= self.n_bits <= MAX_BITS:
            raise InputError(f"n_bits must be between 1 and {MAX_BITS}, got {self.n_bits}")
        width = (self.n_bits + 7) // 8
        if codes.ndim != 2 or codes.shape[1] != width:
            raise InputError(f"codes of {self.n_bits} bits must have shape (n, {width}), got {codes.shape}")
        if not len(codes):
            raise InputError("there must be at least one code, got none")
        if self.score not in ("hamming", "overlap"):
            raise InputError(f'score must be "hamming" or "overlap", got {self.score!r}')
        check_ids(self.ids, len(codes))
        labels = self.labels
        if labels is not None and (labels.ndim not in (1, 2) or len(labels) != len(codes)):
            raise InputError(
                f"labels must have shape ({len(codes)},) or ({len(codes)}, n_labels), got {labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of_file(cls, file: CodeFile) -> Exported:
        """The content of a code file."""
        return cls(
            codes=file.codes,
            n_bits=file.n_bits,
            ids=file.ids,
            score=file.score,
            labels=file.labels,
            class_names=file.class_names,
            model=file.model,
        )

    @classmethod
    def of_index(cls, index: HashIndex) -> Exported:
        """The items of an index, in their order."""
        ids, layout = index.ids(), index.layout
        return cls(
            codes=index.codes(),
            n_bits=layout.n_bits,
            ids=tuple(ids.tolist()) if layout.ids == "text" else ids,
            score=layout.score,
            labels=index.labels(),
            class_names=layout.class_names,
            model=layout.model,
        )

    @property
    def has_names(self) -> bool:
        """Whether the ids are text."""
        return isinstance(self.ids, tuple)

    def chunks(self, rows: int = ROWS) -> Iterator[Chunk]:
        """The rows in order, ``rows`` at a time.

        Raises :class:`InputError` where a padding bit is set, for that would be a distance that no code has.
        """
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            codes = np.ascontiguousarray(self.codes[start:stop])
            if self.n_bits % 8 and int(codes[:, -1].max()) >> (self.n_bits % 8):
                raise InputError(
                    f"codes must have padding bits of 0 (from bit {self.n_bits} on), got some that are set"
                )
            ids: np.ndarray | list[str]
            if self.ids is None:
                ids = np.arange(start, stop, dtype=np.int64)
            elif isinstance(self.ids, tuple):
                ids = list(self.ids[start:stop])
            else:
                ids = np.ascontiguousarray(self.ids[start:stop])
            labels = None if self.labels is None else np.asarray(self.labels[start:stop])
            yield Chunk(codes, ids, labels, stop)

    def label_texts(self, chunk: Chunk) -> list[str] | list[list[str]] | None:
        """The labels of a chunk by name: one text per item, or for multi-hot rows a list of them; None: unlabelled."""
        if chunk.labels is None:
            return None
        if chunk.labels.ndim == 1:
            return [describe_label(label, self.class_names) for label in chunk.labels]
        return [
            [describe_label(label, self.class_names) for label in np.flatnonzero(row)] for row in chunk.labels
        ]


def check_ids(ids: np.ndarray | tuple[str, ...] | None, n_items: int) -> None:
    """Refuse ids of another kind or number, and such as are given twice."""
    if ids is None:
        return
    if isinstance(ids, tuple):
        if wrong := [text for text in ids if not isinstance(text, str)]:
            raise TypeError(f"ids must be text or an int64 array, got {wrong[0]!r}")
    elif not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or ids.ndim != 1:
        raise TypeError(f"ids must be a tuple of text or an int64 array of shape (n,), got {kind_of(ids)}")
    if len(ids) != n_items:
        raise InputError(f"ids must name each of the {n_items} codes, got {len(ids)}")
    if (twice := _first_repeated(ids)) is not None:
        raise InputError(f"ids must differ from each other, got {twice!r} twice")


def _first_repeated(ids: np.ndarray | tuple[str, ...]) -> int | str | None:
    if isinstance(ids, tuple):
        seen: set[str] = set()
        for name in ids:
            if name in seen:
                return name
            seen.add(name)
        return None
    values = np.sort(ids)
    repeated = np.flatnonzero(values[1:] == values[:-1])
    return int(values[repeated[0]]) if len(repeated) else None
