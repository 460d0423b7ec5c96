"""Code files: packed codes on disk.

A code file is one safetensors file (docs/evaluation.md, "Code files"): packed ``codes`` uint8 ``(n, bytes)``,
optional ``labels`` and ``ids``, and a header that names the code length, the bit order and the model. Nothing
is pickled, the file is written whole or not at all, and what is damaged or of another kind is refused by
name.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .array_files import load_arrays, save_arrays

__all__ = ["CODE_KIND", "CODE_VERSION", "CodeFile", "check_same_code", "describe_label"]

CODE_KIND = "dshc.codes"
CODE_VERSION = "1"
MAX_BITS = 4096


@dataclass(frozen=True)
class CodeFile:
    """Hash codes with what is needed to use them later.

    Args:
        codes: packed codes, uint8 ``(n, ceil(n_bits / 8))``, bit ``j`` in byte ``j // 8`` at position ``j %
            8``.
        n_bits: code length; padding bits must be 0.
        labels: class ids, int64 ``(n,)``, or multi-hot rows, uint8 ``(n, n_labels)`` of 0 and 1; None:
            unlabelled.
        ids: a name for each item (a file name, a database key); None: items are known by their row number.
        class_names: names of the classes or labels; empty: not known.
        model: what made the codes, e.g. ``"dshc 30 bits sha256:0f3a..."``; empty: not known.
        score: the ranking the codes are meant for, ``"hamming"`` or ``"overlap"``.

    Raises:
        ValueError, TypeError: a field of another shape, dtype or range; the message names it.
    """

    codes: np.ndarray
    n_bits: int
    labels: np.ndarray | None = None
    ids: tuple[str, ...] | None = None
    class_names: tuple[str, ...] = ()
    model: str = ""
    score: str = "hamming"
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        codes = self.codes
        if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
            raise TypeError(f"codes must be a numpy array of uint8, got {kind_of(codes)}")
        if isinstance(self.n_bits, bool) or not isinstance(self.n_bits, (int, np.integer)):
            raise TypeError(f"n_bits must be an int, got {kind_of(self.n_bits)}")
        if not 1 <= self.n_bits <= MAX_BITS:
            raise ValueError(f"n_bits must be between 1 and {MAX_BITS}, got {self.n_bits}")
        width = (self.n_bits + 7) // 8
        if codes.ndim != 2 or codes.shape[1] != width:
            raise ValueError(f"codes of {self.n_bits} bits must have shape (n, {width}), got {codes.shape}")
        if self.n_bits % 8 and codes.size and int(codes[:, -1].max()) >> (self.n_bits % 8):
            raise ValueError(
                f"codes must have padding bits of 0 (from bit {self.n_bits} on), got some that are set"
            )
        if self.labels is not None:
            _check_labels(self.labels, len(codes))
        if self.ids is not None and len(self.ids) != len(codes):
            raise ValueError(f"ids must name each of the {len(codes)} codes, got {len(self.ids)}")
        for name in ("ids", "class_names"):
            if wrong := [text for text in getattr(self, name) or () if not isinstance(text, str)]:
                raise TypeError(f"{name} must be text, got {wrong[0]!r}")
        if self.score not in ("hamming", "overlap"):
            raise ValueError(f'score must be "hamming" or "overlap", got {self.score!r}')

    def __len__(self) -> int:
        return len(self.codes)

    def name_of(self, item: int) -> str:
        """The id of an item, or its row number where the file has no ids."""
        return self.ids[item] if self.ids is not None else str(item)

    @property
    def n_unlabelled(self) -> int:
        """Items without a class (-1); 0 where labels are multi-hot, of which a row may be empty."""
        return 0 if self.labels is None or self.labels.ndim == 2 else int((self.labels < 0).sum())

    def label_of(self, item: int) -> str:
        """The class name (or the label names, joined by commas) of an item; empty where it has none."""
        return "" if self.labels is None else describe_label(self.labels[item], self.class_names)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file atomically; equal content gives equal bytes. Returns the path."""
        arrays: dict[str, np.ndarray] = {"codes": self.codes}
        if self.labels is not None:
            arrays["labels"] = self.labels
        if self.ids is not None:
            encoded = [name.encode() for name in self.ids]
            arrays["ids"] = np.frombuffer(b"".join(encoded), np.uint8)
            arrays["ids_offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        metadata = {
            "version": CODE_VERSION,
            "n_bits": str(int(self.n_bits)),
            "bit_order": "little",
            "score": self.score,
            "model": self.model,
            "class_names": json.dumps(list(self.class_names), ensure_ascii=False),
        }
        return save_arrays(path, CODE_KIND, arrays, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CodeFile:
        """Read a code file and check its checksum, header and shapes.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a code file, or a damaged one; the message names the file and what is wrong.
        """
        path = Path(path)
        arrays, metadata = load_arrays(path, CODE_KIND)
        if metadata.get("version") != CODE_VERSION:
            raise ValueError(
                f"{path}: version of the code file must be {CODE_VERSION!r}, got {metadata.get('version')!r}"
            )
        if metadata.get("bit_order") != "little":
            raise ValueError(
                f"{path}: bit_order must be 'little', got {metadata.get('bit_order')!r}; "
                "dshc_fast.reverse_bit_order converts"
            )
        try:
            return cls(
                codes=arrays["codes"],
                n_bits=int(metadata["n_bits"]),
                labels=arrays.get("labels"),
                ids=_read_ids(arrays),
                class_names=tuple(json.loads(metadata.get("class_names", "[]"))),
                model=metadata.get("model", ""),
                score=metadata.get("score", "hamming"),
                path=path,
            )
        except KeyError as error:
            raise ValueError(f"{path}: damaged, it lacks {error}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged, {error}") from None


def check_same_code(queries: CodeFile, database: CodeFile) -> None:
    """Refuse code files of different lengths; warn where two different models made them."""
    if queries.n_bits != database.n_bits:
        raise ValueError(
            f"{queries.path or 'queries'} and {database.path or 'the database'} must hold codes of one length, "
            f"got {queries.n_bits} bits and {database.n_bits} bits"
        )
    if queries.model and database.model and queries.model != database.model:
        warnings.warn(
            f"the codes come from different models: queries from {queries.model}, "
            f"database from {database.model}",
            UserWarning,
            stacklevel=3,
        )


def describe_label(label: np.ndarray | int, class_names: Sequence[str] = ()) -> str:
    """One label as text: a class name (or its id), or the names of a multi-hot row joined by commas; empty: none."""
    names = class_names
    if np.ndim(label):
        hot = np.flatnonzero(label)
        return ", ".join(names[i] if i < len(names) else str(i) for i in hot)
    if int(label) < 0:
        return ""
    return names[int(label)] if int(label) < len(names) else str(int(label))


def _check_labels(labels: np.ndarray, n_items: int) -> None:
    if not isinstance(labels, np.ndarray) or labels.ndim not in (1, 2) or len(labels) != n_items:
        shape = getattr(labels, "shape", None)
        raise ValueError(f"labels must have shape ({n_items},) or ({n_items}, n_labels), got {shape}")
    if labels.ndim == 1 and labels.dtype != np.int64:
        raise TypeError(f"labels holding class ids must be int64, got {labels.dtype}")
    if labels.ndim == 2 and labels.dtype != np.uint8:
        raise TypeError(f"labels holding multi-hot rows must be uint8, got {labels.dtype}")
    if labels.ndim == 2 and labels.size and labels.max() > 1:
        raise ValueError(f"labels holding multi-hot rows must be 0 and 1, got {labels.max()}")


def _read_ids(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...] | None:
    if "ids" not in tensors:
        return None
    text, offsets = tensors["ids"].tobytes(), tensors["ids_offsets"]
    if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(text):
        raise ValueError("ids_offsets must end with the size of ids, got another")
    if (np.diff(offsets) < 0).any():
        raise ValueError("ids_offsets must not fall, got some that do")
    return tuple(text[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True))


def kind_of(value: object) -> str:
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__} of {dtype}" if dtype is not None else type(value).__name__
