"""Which items of an index a search may answer: by id, by label, by what their metadata say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, did_you_mean
from .id_column import Wanted
from .layout import Layout
from .new_items import checked_ids, pyarrow_of_metadata
from .parts import OpenPart

if TYPE_CHECKING:
    import pyarrow.compute

__all__ = ["Filter"]

_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class Filter:
    """All conditions that are given must hold.

    Args:
        ids: the items that may be answered; ids that the index does not have are passed over.
        label: a class by name or number, or several, of which an item must have one.
        where: an Arrow expression over the metadata, such as ``pyarrow.compute.field("year") >= 2020``. An item for
            which it is null is not answered.
    """

    ids: Any = None
    label: int | str | Sequence[int | str] | None = None
    where: pyarrow.compute.Expression | None = None

    def masks(self, parts: Sequence[OpenPart], layout: Layout) -> list[np.ndarray | None]:
        """For each part bool ``(n_items,)``, removed rows left out; None: all of its rows.

        Raises ``TypeError`` or :class:`InputError` for a condition that the index cannot answer.
        """
        ids = None if self.ids is None else Wanted(checked_ids(self.ids, layout))
        classes = None if self.label is None else self._classes(layout)
        if self.where is not None:
            self._check_where(layout)
        return [self._mask(part, ids, classes) for part in parts]

    def _mask(self, part: OpenPart, ids: Wanted | None, classes: np.ndarray | None) -> np.ndarray | None:
        mask = part.is_live
        if ids is not None:
            named = np.zeros(part.part.n_items, bool)
            rows = part.find(ids)
            named[rows[rows >= 0]] = True
            mask = _both(mask, named)
        if classes is not None:
            labels = part.arrays["labels"]
            mask = _both(
                mask,
                np.isin(labels, classes) if labels.ndim == 1 else labels[:, classes].any(axis=1),
            )
        if self.where is not None:
            mask = _both(mask, _rows_where(part, self.where))
        return mask

    def _classes(self, layout: Layout) -> np.ndarray:
        if layout.labels == "none":
            raise InputError("label must go with an index that has labels, this one has none")
        if not isinstance(self.label, (int, str, np.integer, Iterable)):
            raise TypeError(f"label must be a name or a number, or several, got {type(self.label).__name__}")
        wanted = [self.label] if isinstance(self.label, (int, str, np.integer)) else list(self.label)
        names = layout.class_names
        classes = []
        for one in wanted:
            if isinstance(one, str):
                if one not in names:
                    known = f"one of {', '.join(names)}" if 0 < len(names) <= 20 else "a class of the index"
                    raise InputError(f"label must be {known}, got {one!r}{did_you_mean(one, names)}")
                classes.append(names.index(one))
            elif isinstance(one, bool) or not isinstance(one, (int, np.integer)):
                raise TypeError(f"label must be a name or a number, got {type(one).__name__}")
            elif names and not 0 <= one < len(names):
                raise InputError(f"label must lie in 0..{len(names) - 1}, got {_shown_number(one)}")
            elif not 0 <= one <= _INT64.max:
                raise InputError(f"label must be an integer of 0 to 2^63 - 1, got {_shown_number(one)}")
            else:
                classes.append(int(one))
        return np.array(classes, np.int64)

    def _check_where(self, layout: Layout) -> None:
        pc = _compute()
        if not isinstance(self.where, pc.Expression):
            raise TypeError(f"where must be a pyarrow.compute.Expression, got {type(self.where).__name__}")
        if not layout.metadata:
            raise InputError("where must go with an index that has metadata, this one has none")


def _compute() -> Any:
    pyarrow_of_metadata()
    import pyarrow.compute

    return pyarrow.compute


def _shown_number(number: int) -> str:
    return str(number) if int(number).bit_length() < 70 else f"a number of {int(number).bit_length()} bits"


def _both(mask: np.ndarray | None, more: np.ndarray) -> np.ndarray:
    return more if mask is None else mask & more


def _rows_where(part: OpenPart, where: Any) -> np.ndarray:
    pa = pyarrow_of_metadata()
    table = part.metadata.append_column("\0row", pa.array(np.arange(part.part.n_items)))
    try:
        rows = table.filter(where)["\0row"].to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError) as error:
        first = str(error).splitlines()[0]
        if isinstance(error, pa.ArrowInvalid) and not first.startswith("No match for FieldRef"):
            first = (
                "values of a column do not fit the type that they are compared as"  # Arrow tells one of them
            )
        columns = ", ".join(part.metadata.column_names)
        raise InputError(f"where must fit the metadata ({columns}): {first}") from None
    found = np.zeros(part.part.n_items, bool)
    found[rows] = True
    return found
