"""Columns of a CSV file as the types that an index has for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .new_items import pyarrow_of_metadata

__all__ = ["read_columns"]

_WHOLE = r"^\+?(-?\d+)(?:\.0*)?$"
"""What pandas writes for integers where others are missing."""


def read_columns(path: Path, kinds: Mapping[str, Any]) -> Any:
    """The columns of these names and Arrow types that the file has, as a table; others are not looked at.

    007 is a text in a column of texts. An empty cell is null (of ``id`` an empty text), and in other columns so is what
    pandas has for it (NA, NaN).
    Raises :class:`InputError` naming the column whose values do not fit, ``ArrowException`` for what is no CSV.
    """
    pa = pyarrow_of_metadata()
    names = _names(path, kinds)
    wanted = {name: kind for name, kind in kinds.items() if name in names}
    texts = {name: kind for name, kind in wanted.items() if _is_text(kind)}
    columns = {
        **_read(path, {"id": texts.pop("id")} if "id" in texts else {}),
        **_read(path, texts, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]),
        **_others(path, {name: kind for name, kind in wanted.items() if name not in texts}),
    }
    return pa.table({name: columns[name] for name in wanted}) if wanted else pa.table({})


def _names(path: Path, wanted: Iterable[str]) -> list[str]:
    from pyarrow import csv

    with csv.open_csv(path) as file:
        names = file.schema.names
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise InputError(f"{path}: must name each column once, got {twice[0]!r} twice")
    return names


def _is_text(kind: Any) -> bool:
    types = pyarrow_of_metadata().types
    return types.is_string(kind) or types.is_large_string(kind)


def _read(path: Path, kinds: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    from pyarrow import csv

    if not kinds:
        return {}
    known = {name: kind for name, kind in kinds.items() if kind is not None}
    asked = csv.ConvertOptions(include_columns=list(kinds), column_types=known, **options)
    table = csv.read_csv(path, convert_options=asked)
    return {name: table[name] for name in kinds}


def _others(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    pa = pyarrow_of_metadata()
    try:
        return _read(path, kinds)
    except pa.ArrowException:
        return {name: _one(path, name, kind) for name, kind in kinds.items()}


def _one(path: Path, name: str, kind: Any) -> Any:
    """A column that may hold what Arrow's reader does not take as its type."""
    pa = pyarrow_of_metadata()
    import pyarrow.compute as pc

    try:
        return _read(path, {name: kind})[name]
    except pa.ArrowException:
        pass
    try:
        if pa.types.is_integer(kind):
            cells = pc.utf8_trim_whitespace(_read(path, {name: pa.string()}, null_values=_nulls())[name])
            cells = pc.if_else(pc.is_in(cells, pa.array(_nulls())), None, cells)
            try:
                return pc.replace_substring_regex(cells, _WHOLE, r"\1").cast(kind)
            except pa.ArrowException:  # 1e+16
                return cells.cast(pa.float64()).cast(kind)
        if pa.types.is_float16(kind):  # to which not every Arrow casts
            values = _read(path, {name: pa.float32()})[name]
            missing = np.asarray(values.is_null())
            return pa.chunked_array([pa.array(values.to_numpy().astype(np.float16), mask=missing)])
        return _read(path, {name: None})[name].cast(kind)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: column {name!r} must be {kind}, as in the index, got another value ({reason})"
        ) from None


def _nulls() -> Sequence[str]:
    from pyarrow import csv

    return csv.ConvertOptions().null_values
