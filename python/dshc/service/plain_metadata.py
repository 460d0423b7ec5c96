"""Metadata as JSON has it, whatever Arrow type they are of."""

from __future__ import annotations

import contextlib
import datetime
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

__all__ = ["plain", "plain_columns"]


def plain_columns(table: pyarrow.Table) -> dict[str, list[Any]]:
    """The values of each column: numbers that JSON lacks are null, times in ISO 8601, bytes in hex."""
    return {name: _plain_column(table[name]) for name in table.column_names}


def _plain_column(column: pyarrow.ChunkedArray) -> list[Any]:
    # Python's times end before the year 10000 and have microseconds; for nanoseconds pyarrow asks for pandas.
    if "[ns" not in str(column.type):
        with contextlib.suppress(OverflowError, ValueError):
            return [plain(value) for value in column.to_pylist()]
    return [_plain_scalar(value) for value in column]


def _plain_scalar(value: pyarrow.Scalar) -> Any:
    """The same of one value, by itself where Python has no such time."""
    from pyarrow import types

    kind = value.type
    if not value.is_valid:
        return None
    if types.is_struct(kind):
        return {name: _plain_scalar(one) for name, one in value.items()}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_plain_scalar(one) for one in value.values]
    if types.is_timestamp(kind):
        return _moment(value)
    if types.is_time(kind) and kind.unit == "ns":
        microseconds, rest = divmod(value.value, 1000)
        return _with_nanoseconds(_time_of_day(microseconds), rest)
    if types.is_duration(kind) and kind.unit == "ns" and value.value % 1000:
        return f"{value.value} ns"
    try:
        return plain(value.as_py())
    except (OverflowError, ValueError):
        if types.is_date32(kind):
            return str(np.datetime64(value.value, "D"))
        if types.is_date64(kind):
            return str(np.datetime64(value.value, "ms").astype("datetime64[D]"))
        return f"{value.value} {kind.unit}"  # a duration


def _moment(value: pyarrow.Scalar) -> str:
    import pyarrow

    kind, rest = value.type, 0
    if kind.unit == "ns":
        microseconds, rest = divmod(value.value, 1000)
        value = pyarrow.scalar(microseconds, pyarrow.timestamp("us", kind.tz))
    try:
        return _with_nanoseconds(value.as_py(), rest)
    except (OverflowError, ValueError):
        return f"{np.datetime64(value.value, value.type.unit)}{'' if kind.tz is None else '+00:00'}"


def _time_of_day(microseconds: int) -> datetime.time:
    return (datetime.datetime.min + datetime.timedelta(microseconds=microseconds)).time()


def _with_nanoseconds(moment: datetime.datetime | datetime.time, rest: int) -> str:
    if not rest:
        return moment.isoformat()
    text = moment.isoformat(timespec="microseconds")
    end = text.index(".") + 7
    return f"{text[:end]}{rest:03}{text[end:]}"


def plain(value: Any) -> Any:
    """A value of Python as JSON has it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value)
