"""Similarity without labels: pairs of items that are known to be similar or not, and the files that hold them.

* ``.csv``, ``.tsv``, ``.txt`` (columns by commas, tabs, or spaces): two items and, in a third column, whether they are
  similar: ``1``, ``true``, ``yes`` or ``similar``; ``0``, ``-1``, ``false``, ``no`` or ``dissimilar``. Without a third
  column all pairs are similar. A first line of other words is a header. Items by their ids (of photos: the file names,
  as ``dshc encode`` writes them), or by their numbers from 0.
* ``.npy``: integers ``(m, 2)`` or ``(m, 3)`` as above, or a matrix ``(n, n)``: 1 similar, 0 not; int8 may hold -1 for
  pairs that are not known.
* ``.npz``, ``.safetensors``: ``pairs`` ``(m, 2)`` and perhaps ``similar`` ``(m,)``; or ``similarity`` ``(n, n)``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse

from ..errors import InputError
from .embeddings import SUFFIXES as ARRAY_SUFFIXES
from .embeddings import read_arrays
from .image_fit import printable
from .tables import read_text

__all__ = ["PAIR_SUFFIXES", "Pairs", "read_pairs"]

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": None}
PAIR_SUFFIXES = (*_DELIMITERS, *ARRAY_SUFFIXES)
_COLUMNS = ("", "first", "second", "item", "id", "image", "file", "path", "name", "left", "right", "x", "y")
_VALUES = {
    **dict.fromkeys(("1", "true", "yes", "similar"), True),
    **dict.fromkeys(("0", "-1", "false", "no", "dissimilar"), False),
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which pairs of ``n`` items are known.

    ``known``: int8 ``(n, n)``, sparse by rows and symmetric: 1 where two items are similar, -1 where they are not,
    nothing where that is not known, nor on the diagonal. ``n_contradicted``: pairs that were called similar as often
    as not, and are left out.
    """

    known: sparse.csr_array
    n_contradicted: int = 0

    @classmethod
    def of(cls, n_items: int, pairs: np.ndarray, similar: np.ndarray) -> Pairs:
        """From item numbers, integers ``(m, 2)``, and bool ``(m,)``; the order within a pair is of no matter.

        Of a pair that is there several times the majority counts. Raises :class:`InputError` for a number that is no
        item's, and for an item paired with itself.
        """
        pairs, similar = np.asarray(pairs), np.asarray(similar)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise InputError(f"pairs must be integers (m, 2), got {pairs.dtype} {pairs.shape}")
        if similar.dtype != np.bool_ or similar.shape != (len(pairs),):
            raise InputError(f"similar must be bool ({len(pairs)},), got {similar.dtype} {similar.shape}")
        if len(pairs) and (pairs.min() < 0 or pairs.max() >= n_items):
            row = int(np.argmax((pairs < 0).any(1) | (pairs >= n_items).any(1)))
            raise InputError(
                f"pairs must hold item numbers from 0 to {n_items - 1}, got {pairs[row].tolist()} as pair {row}"
            )
        if (alone := pairs[:, 0] == pairs[:, 1]).any():
            row = int(np.argmax(alone))
            raise InputError(f"pairs must be of two items, got {pairs[row].tolist()} as pair {row}")
        low, high = pairs.min(1).astype(np.int32), pairs.max(1).astype(np.int32)
        votes = np.where(similar, 1, -1).astype(np.int32)
        upper = sparse.csr_array((votes, (low, high)), shape=(n_items, n_items))  # votes of a pair are summed
        upper.sum_duplicates()
        contradicted = int((upper.data == 0).sum())
        upper.eliminate_zeros()
        upper.data = np.sign(upper.data).astype(np.int8)
        return cls(_symmetric(upper.astype(np.int8)), contradicted)

    @property
    def n_items(self) -> int:
        return self.known.shape[0]

    @property
    def n_pairs(self) -> int:
        """Known pairs, each counted once."""
        return self.known.nnz // 2

    @cached_property
    def n_similar(self) -> int:
        return int((self.known.data > 0).sum()) // 2

    @property
    def complete(self) -> bool:
        """Whether every pair is known."""
        return self.n_pairs == self.n_items * (self.n_items - 1) // 2

    def rows(self, items: np.ndarray) -> np.ndarray:
        """What is known of some items with all, int8 ``(b, n)``: 1 similar, -1 not, 0 not known."""
        return self.known[items].toarray()

    def take(self, items: np.ndarray) -> Pairs:
        """The pairs among some items, which are numbered anew in their order."""
        return Pairs(self.known[items][:, items])

    def digest(self) -> str:
        """SHA-256, hexadecimal: equal for the same known pairs."""
        digest = hashlib.sha256(f"dshc.pairs/1 {self.n_items}\n".encode())
        for part, dtype in ((self.known.indptr, "<i8"), (self.known.indices, "<i4"), (self.known.data, "i1")):
            digest.update(np.ascontiguousarray(part, dtype))
        return digest.hexdigest()

    def __str__(self) -> str:
        share = self.n_pairs / max(1, self.n_items * (self.n_items - 1) // 2)
        text = f"{self.n_pairs:,} pairs ({share:.3g} of all), {self.n_similar:,} of them similar"
        return text + (f", {self.n_contradicted:,} contradicted" if self.n_contradicted else "")


def read_pairs(path: Path, n_items: int, ids: Sequence[str] | None = None) -> Pairs:
    """The pairs in a file, of ``n_items`` items that may have ``ids``.

    Raises :class:`InputError` naming the file, and the line, of what is no pair of two of the items.
    """
    where = printable(path)
    suffix = path.suffix.lower()
    if suffix not in PAIR_SUFFIXES:
        raise InputError(f"pairs must be a file {', '.join(PAIR_SUFFIXES)}, got {where}")
    if suffix in ARRAY_SUFFIXES:
        found = _from_arrays(read_arrays(path), n_items, where)
    else:
        found = _from_text(path, _DELIMITERS[suffix], n_items, ids, where)
    if not found.n_similar:
        raise InputError(f"{where}: must have a pair of similar items, got {found.n_pairs:,} that are not")
    return found


def _from_arrays(content: dict[str, np.ndarray], n_items: int, where: str) -> Pairs:
    for name, values in content.items():
        if values.dtype.kind not in "biu" and name in ("x", "pairs", "similar", "similarity"):
            raise InputError(f"{where}: {name} must be integers or bools, got {values.dtype}")
    bare = content.get("x")  # of a file that holds one array
    if bare is not None and bare.ndim == 2 and bare.shape != (n_items, n_items) and bare.shape[1] in (2, 3):
        content = {"pairs": bare[:, :2], **({"similar": bare[:, 2]} if bare.shape[1] == 3 else {})}
    matrix, pairs = content.get("similarity", content.get("x")), content.get("pairs")
    if (matrix is None) == (pairs is None):
        raise InputError(
            f"{where}: must have the array pairs (m, 2), or similarity ({n_items}, {n_items}), "
            f"got {', '.join(sorted(content)) or 'nothing'}"
        )
    if pairs is None:
        return _from_matrix(matrix, n_items, f"{where}: similarity")
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"{where}: pairs must have shape (m, 2), got {pairs.shape}")
    similar = content.get("similar", np.ones(len(pairs), bool))
    if similar.shape != (len(pairs),):
        raise InputError(
            f"{where}: similar must have shape ({len(pairs)},) as pairs has, got {similar.shape}"
        )
    if not np.isin(similar, (-1, 0, 1)).all():
        raise InputError(f"{where}: similar must be 1, 0 or -1, got {similar.min()} to {similar.max()}")
    try:
        return Pairs.of(n_items, pairs, similar == 1)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _from_matrix(matrix: np.ndarray, n_items: int, where: str) -> Pairs:
    if matrix.shape != (n_items, n_items):
        raise InputError(f"{where} must have shape ({n_items}, {n_items}), got {matrix.shape}")
    if matrix.min() < -1 or matrix.max() > 1:
        raise InputError(f"{where} must be 1, 0, or -1 (not known), got {matrix.min()} to {matrix.max()}")
    if not (matrix == matrix.T).all():
        row, column = np.argwhere(matrix != matrix.T)[0]
        raise InputError(
            f"{where} must be symmetric, got {matrix[row, column]} in row {row}, column {column}, "
            f"and {matrix[column, row]} across"
        )
    known = np.zeros((n_items, n_items), np.int8)
    known[matrix == 1], known[matrix == 0] = 1, -1
    np.fill_diagonal(known, 0)
    # Some rows at a time: all entries of a dense matrix at once take 16 bytes each.
    return Pairs(
        sparse.vstack([sparse.csr_array(known[i : i + 512]) for i in range(0, n_items, 512)], format="csr")
    )


def _from_text(
    path: Path, delimiter: str | None, n_items: int, ids: Sequence[str] | None, where: str
) -> Pairs:
    text = read_text(path)
    if (plain := _plain_numbers(text, delimiter, n_items, ids)) is not None:
        # Of no third column, all.
        return Pairs.of(n_items, plain[:, :2], (plain[:, 2:] == 1).all(axis=1))
    if delimiter is None:
        rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        except csv.Error as error:
            raise InputError(f"{where}: line {reader.line_num} must be a row of a table ({error})") from None
    rows = [row for row in rows if any(row[1])]
    names = None if ids is None else {name: number for number, name in enumerate(ids)}
    if rows and _is_header(rows[0][1]) and not (names and names.keys() & set(rows[0][1][:2])):
        rows = rows[1:]
    if not rows:
        raise InputError(f"{where}: must hold pairs, got none")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width or width not in (2, 3):
            raise InputError(
                f"{where}: line {number} must have 2 or 3 columns as line {rows[0][0]}, got {len(row)}"
            )
        if width == 3 and row[2].lower() not in _VALUES:
            raise InputError(
                f"{where}: line {number} must end with 1 (similar) or 0, got {printable(row[2])!r}"
            )
    cells = {cell for _, row in rows for cell in row[:2]}
    by_name = names is not None and (not cells.isdisjoint(names.keys()) or not all(map(_is_number, cells)))
    if by_name and len(names or ()) < len(ids or ()):
        raise InputError(f"{where}: items must have different ids to go by them, got the same for some")
    pairs = np.array([[_item(cell, names if by_name else None, n_items, f"{where}: line {number}")
                       for cell in row[:2]] for number, row in rows], np.int64)  # fmt: skip
    if (alone := pairs[:, 0] == pairs[:, 1]).any():
        raise InputError(f"{where}: line {rows[int(np.argmax(alone))][0]} must name two items, got one twice")
    return Pairs.of(n_items, pairs, np.array([width == 2 or _VALUES[row[2].lower()] for _, row in rows]))


def _plain_numbers(
    text: str, delimiter: str | None, n_items: int, ids: Sequence[str] | None
) -> np.ndarray | None:
    """Columns of a text of numbers alone, at the pace and size of arrays; None for any other text, right or wrong."""
    if "+" in text or (ids is not None and any(map(_is_number, ids))):
        return None
    begin = len(text) - len(text.lstrip("\r\n"))
    first = text[begin:].split("\n", 1)[0].strip()
    cells = [cell.strip() for cell in first.split(delimiter)]
    if _is_header(cells):
        if ids is not None and not set(cells[:2]).isdisjoint(ids):
            return None
        begin = text.find("\n", begin) + 1
        if not begin:
            return None
    lines = io.StringIO(text)
    lines.seek(begin)
    try:
        with warnings.catch_warnings(action="error"):  # of numbers such as 1.0, and of no line at all
            found = np.loadtxt(lines, dtype=np.int64, delimiter=delimiter, comments=None, ndmin=2)
    except (ValueError, Warning):
        return None
    if found.shape[1] not in (2, 3) or found[:, :2].min() < 0 or found[:, :2].max() >= n_items:
        return None
    if (found[:, 0] == found[:, 1]).any() or (
        found.shape[1] == 3 and not np.isin(found[:, 2], (-1, 0, 1)).all()
    ):
        return None
    return found


def _is_header(row: Sequence[str]) -> bool:
    """Whether a first line names columns: its items are called as columns are, such as ``a`` or ``image_1``."""
    return all(
        cell[:1].isalpha() and cell.lower().rstrip("_ -0123456789abij") in _COLUMNS for cell in row[:2]
    )


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) < 19


def _item(cell: str, names: dict[str, int] | None, n_items: int, where: str) -> int:
    if names is not None:
        if cell not in names:
            raise InputError(f"{where} must name two items of the set, got {printable(cell)!r}")
        return names[cell]
    if not _is_number(cell) or int(cell) >= n_items:
        raise InputError(
            f"{where} must name two items by numbers from 0 to {n_items - 1}, got {printable(cell)!r}"
        )
    return int(cell)


def _symmetric(upper: sparse.csr_array) -> sparse.csr_array:
    both = sparse.csr_array(upper + upper.T)
    both.sort_indices()
    return both
