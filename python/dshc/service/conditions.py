"""Which items a request may be answered with, in a form that tells equal conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..index import Layout
from ..index.predicates import column_types, predicate

__all__ = ["Condition", "typed_ids"]

_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class Condition:
    """All that is given must hold: one of ``ids``, one of the classes ``label`` (names or numbers), ``where`` (a
    condition on metadata as text)."""

    ids: tuple[str | int, ...] | None = None
    label: tuple[str | int, ...] | None = None
    where: str | None = None

    def arguments(self, layout: Layout) -> dict[str, Any]:
        """What :meth:`dshc.HashIndex.search` is told. Raises :class:`InputError` for what the index cannot answer."""
        found: dict[str, Any] = {}
        if self.ids is not None:
            found["ids"] = [id for id in typed_ids(self.ids, layout) if id is not None]
        if self.label is not None:
            found["label"] = [_class(one, layout) for one in self.label]
        if self.where is not None:
            found["where"] = predicate(self.where, column_types(layout))
        return found


def typed_ids(ids: Sequence[str | int], layout: Layout) -> list[Any]:
    """Ids as the index has them: a number may be typed as text, and the other way round; None for what can be none."""
    if layout.ids == "text":
        return [_text(id) for id in ids]
    return [_number(id) for id in ids]


def _text(id: str | int) -> str | None:
    text = str(id)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _number(id: str | int) -> int | None:
    if isinstance(id, str):
        digits = id.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            return None
        id = int(id)
    return id if _INT64.min <= id <= _INT64.max else None


def _class(label: str | int, layout: Layout) -> str | int:
    """A class by its name; by its number where classes have none, or none of this name."""
    if isinstance(label, str) and label not in layout.class_names and label.isascii() and label.isdigit():
        return int(label)
    return label
