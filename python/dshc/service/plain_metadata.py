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
    return [_plain_time(value) if value.is_valid else None for value in column]


def _plain_time(value: pyarrow.Scalar) -> str:
    """A time, or a duration, of any size."""
    import pyarrow

    kind, number, unit = value.type, value.value, _UNITS[getattr(value.type, "unit", "D")]
    if pyarrow.types.is_date(kind):
        return str(np.datetime64(number, "D" if kind == pyarrow.date32() else "ms").astype("datetime64[D]"))
    microseconds, rest = divmod(number * unit, 1000)
    try:
        span = datetime.timedelta(microseconds=microseconds)
        if pyarrow.types.is_duration(kind):
            return f"{number} ns" if rest else str(span)
        if pyarrow.types.is_time(kind):
            return _with_nanoseconds((datetime.datetime.min + span).time(), rest)
        return _with_nanoseconds(datetime.datetime(1970, 1, 1) + span, rest)
    except OverflowError:
        if pyarrow.types.is_duration(kind):
            return f"{number} {kind.unit}"
        return str(np.datetime64(number, kind.unit))


_UNITS = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9, "D": 0}


def _with_nanoseconds(moment: datetime.datetime | datetime.time, rest: int) -> str:
    return f"{moment.isoformat(timespec='microseconds')}{rest:03}" if rest else moment.isoformat()


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
