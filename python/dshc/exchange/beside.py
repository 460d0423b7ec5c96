"""The JSON file beside an exported file whose format has no room for ids, labels or the code length.

``codes.faiss`` has ``codes.faiss.json``: kind, ``n``, ``n_bits``, ``bit_order`` (always ``little``), ``score``,
``model``, ``class_names``, ``ids`` (by row, or null: row numbers, or the file has them) and ``labels`` (by row: a
class id, or a list of the labels that a multi-hot row has; null: unlabelled).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..storage import write_whole
from .exported import Exported
from .target import OVERWRITE

__all__ = [
    "Beside",
    "beside_of",
    "beside_path",
    "check_beside",
    "describe",
    "labels_of_rows",
    "read_beside",
    "write_beside",
]

KIND = "dshc.exchange/1"


@dataclass(frozen=True)
class Beside:
    """What is told of codes apart from the codes."""

    n_bits: int
    score: str = "hamming"
    model: str = ""
    class_names: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    labels: np.ndarray | None = None


def beside_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def describe(source: Exported) -> dict[str, Any]:
    """What one JSON object tells of all codes together."""
    return {
        "kind": KIND,
        "n": len(source),
        "n_bits": int(source.n_bits),
        "has_ids": source.ids is not None,
        "bit_order": "little",
        "score": source.score,
        "model": source.model,
        "class_names": list(source.class_names),
    }


def write_beside(path: Path, source: Exported, *, with_numbers: bool) -> Path:
    """Write the file that goes with ``path``; ``with_numbers``: ids that are numbers too, for ``path`` has no place."""
    ids = None
    if isinstance(source.ids, tuple):
        ids = list(source.ids)
    elif source.ids is not None and with_numbers:
        ids = source.ids.tolist()
    labels = None
    if source.labels is not None:
        labels = (
            source.labels.tolist()
            if source.labels.ndim == 1
            else [np.flatnonzero(row).tolist() for row in source.labels]
        )
    told = {**describe(source), "n_labels": _n_labels(source), "ids": ids, "labels": labels}
    return write_whole(beside_path(path), json.dumps(told, ensure_ascii=False) + "\n")


def check_beside(path: Path, overwrite: bool) -> None:
    """Refuse a file beside ``path`` that is not to be replaced, or is none of ours."""
    file = beside_path(path)
    if not file.exists():
        return
    if not overwrite:
        raise InputError(f"{file}: exists, and would tell of {path.name}; {OVERWRITE} replaces it")
    _read_told(file)


def _n_labels(source: Exported) -> int | None:
    return None if source.labels is None or source.labels.ndim == 1 else source.labels.shape[1]


def read_beside(path: Path, n_items: int) -> Beside | None:
    """What the file beside ``path`` tells of its ``n_items`` codes; None where there is none.

    Raises :class:`InputError` naming it where it is damaged, of another kind or of other codes.
    """
    file = beside_path(path)
    if not file.exists():
        return None
    told = _read_told(file)
    if told.get("n") != n_items:
        raise InputError(f"{file}: must tell of the {n_items} codes of {path.name}, got {told.get('n')}")
    return beside_of(told, str(file))


def _read_told(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        kind = told["kind"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file}: must be a JSON object of kind {KIND!r}, got something else") from None
    if kind != KIND:
        raise InputError(f"{file}: must be of kind {KIND!r}, got {kind!r}")
    return told


def beside_of(told: dict[str, Any], where: str) -> Beside:
    """The object of what :func:`describe` and :func:`write_beside` wrote."""
    try:
        ids = told.get("ids")
        return Beside(
            n_bits=int(told["n_bits"]),
            score=str(told["score"]),
            model=str(told["model"]),
            class_names=tuple(map(str, told["class_names"])),
            ids=None if ids is None else tuple(map(str, ids)),
            labels=labels_of_rows(told.get("labels"), told.get("n_labels")),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{where}: damaged, {error}") from None


def labels_of_rows(rows: list[Any] | None, n_labels: int | None) -> np.ndarray | None:
    """Class ids int64 ``(n,)``; or, with ``n_labels``, lists of labels as multi-hot rows uint8 ``(n, n_labels)``."""
    if rows is None:
        return None
    if n_labels is None:
        return np.array(rows, dtype=np.int64)
    hot = np.zeros((len(rows), n_labels), np.uint8)
    for row, labels in zip(hot, rows, strict=True):
        row[labels] = 1
    return hot
