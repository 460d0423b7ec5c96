"""Labels given item by item, one or several each, brought to class ids or multi-hot rows.

One rule everywhere: where every item has exactly one label the set has classes (int64 ``(n,)``); where some have
several or none it is multi-label (uint8 ``(n, C)`` of 0 and 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InputError
from .image_fit import printable
from .scan import some

__all__ = [
    "LABEL_KINDS",
    "LabelsError",
    "as_hot_rows",
    "check_classes_left",
    "check_kind",
    "kind_of",
    "is_plain_integer",
    "labels_of_hot",
    "labels_of_names",
    "labels_of_numbers",
]

LABEL_KINDS = ("ids", "multi-hot", "none")
_IN_WORDS = {"ids": "one class per item", "multi-hot": "several labels per item", "none": "no labels"}


class LabelsError(InputError):
    """Labels of a kind that the caller cannot use; ``kind``, one of ``LABEL_KINDS``, is theirs."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def kind_of(labels: np.ndarray | None) -> str:
    """``"ids"``, ``"multi-hot"`` or ``"none"``."""
    return "none" if labels is None else "ids" if labels.ndim == 1 else "multi-hot"


def check_kind(
    kind: str,
    kinds: Sequence[str],
    where: str,
    how: str = "give one or several per image, or train a method that needs none",
) -> None:
    """Raise :class:`LabelsError` unless labels of ``kind`` are among the ``kinds`` that can be used."""
    if kind in kinds:
        return
    if kind == "none":
        raise LabelsError(f"{where}: must have labels, got none; {how}", kind)
    wanted = " or ".join(_IN_WORDS[known] for known in LABEL_KINDS if known in kinds)
    raise LabelsError(f"{where}: must have {wanted}, got {_IN_WORDS[kind]}", kind)


def check_classes_left(labels: np.ndarray | None, kept: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise where a class has items, and none among the rows ``kept``; labels of multi-hot rows may lose theirs."""
    if labels is None or labels.ndim != 1:
        return
    if len(gone := np.setdiff1d(labels, labels[kept])):
        raise InputError(
            f"{where}: must have an image of each class that can be read, got none of "
            f"{some([names[number] for number in gone])}"
        )


def labels_of_names(
    rows: Sequence[Sequence[str]], where: Callable[[int], str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and class names of items that name their labels; names that are all integers sort as integers.

    ``where(row)`` names an item in errors. Raises :class:`InputError` for a label that an item names twice.
    """
    known = {printable(name) for row in rows for name in row}
    names = tuple(sorted(known, key=int)) if all(is_plain_integer(name) for name in known) else None
    names = tuple(sorted(known)) if names is None else names
    numbers = {name: number for number, name in enumerate(names)}
    return _labels([[numbers[printable(name)] for name in row] for row in rows], names, where), names


def labels_of_numbers(
    rows: Sequence[Sequence[int]], names: Sequence[str], where: Callable[[int], str]
) -> np.ndarray:
    """Labels of items that give them as positions in ``names``."""
    for row, numbers in enumerate(rows):
        for number in numbers:
            if not 0 <= number < len(names):
                raise InputError(
                    f"{where(row)}: labels must be 0 to {len(names) - 1} (the named classes), got {number}"
                )
    return _labels(rows, names, where)


def labels_of_hot(hot: np.ndarray) -> np.ndarray:
    """Labels of multi-hot rows, uint8 ``(n, C)``: class ids where every row holds exactly one 1."""
    single = len(hot) > 0 and bool((hot.sum(axis=1, dtype=np.int64) == 1).all())
    return hot.argmax(axis=1).astype(np.int64) if single else np.ascontiguousarray(hot, np.uint8)


def as_hot_rows(rows: Sequence[Sequence[object]]) -> np.ndarray | None:
    """Rows of equally many 0 and 1 (numbers or text), at least two each, as uint8; None where they are not such."""
    width = len(rows[0]) if rows else 0
    if width < 2:
        return None
    hot = np.empty((len(rows), width), np.uint8)
    values = {0: 0, 1: 1, "0": 0, "1": 1}
    for number, row in enumerate(rows):
        if len(row) != width:
            return None
        try:
            hot[number] = [values[value] for value in row]
        except (KeyError, TypeError):
            return None
    return hot


def _labels(rows: Sequence[Sequence[int]], names: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    for row, numbers in enumerate(rows):
        if len(set(numbers)) != len(numbers):
            twice = next(number for number in numbers if list(numbers).count(number) > 1)
            raise InputError(f"{where(row)}: must name each label once, names {names[twice]!r} twice")
    if all(len(row) == 1 for row in rows):
        return np.array([row[0] for row in rows], np.int64)
    hot = np.zeros((len(rows), len(names)), np.uint8)
    for row, numbers in enumerate(rows):
        hot[row, list(numbers)] = 1
    return hot


def is_plain_integer(name: str) -> bool:
    digits = name.removeprefix("-")  # how many comes first: Python refuses to read more than 4,300
    return len(name) < 19 and digits.isascii() and digits.isdigit() and str(int(name)) == name
