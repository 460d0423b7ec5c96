"""What a condition compares a column with: values of the column's own type."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .new_items import pyarrow_of_metadata

__all__ = ["compared", "is_among"]

_TURNED = {
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.gt: operator.lt,
    operator.ge: operator.le,
}
_Comparison = Callable[[Any, Any], Any]


def compared(name: str, kind: Any, operation: _Comparison, value: Any, *, turned: bool = False) -> Any:
    """The expression of ``name operation value`` for a column of Arrow type ``kind``; ``turned``: of value, column.

    The value is taken as the column's type has it (0.1 of float32 as float32 has it, times as text), so that ``==`` and
    ``in`` agree. Null where the column is. Raises :class:`InputError` for a value of another kind.
    """
    import pyarrow.compute as pc

    operation = _TURNED.get(operation, operation) if turned else operation
    if _is_integer(kind) and type(value) is float:
        return operation(_column(name, kind).cast("float64", safe=False), value)
    beyond = _beyond(kind, value)
    if beyond:  # all values are less than it (1), or more
        holds = operation(0, beyond)
        return pc.if_else(pc.field(name).is_valid(), holds, None)
    return operation(_column(name, kind), _scalar(name, kind, value))


def is_among(name: str, kind: Any, values: Sequence[Any]) -> Any:
    """The expression of ``name in values``; null where the column is."""
    pa = pyarrow_of_metadata()
    import pyarrow.compute as pc

    whole = [int(v) if type(v) is float and v.is_integer() and _is_integer(kind) else v for v in values]
    # A fraction is no value of a column of integers, and neither is what it has no room for.
    kept = [v for v in whole if not (_is_integer(kind) and type(v) is float) and not _beyond(kind, v)]
    scalars = [_scalar(name, kind, value) for value in kept]
    listed = pa.array([scalar.as_py() for scalar in scalars], scalars[0].type) if scalars else None
    inside = pc.scalar(False) if listed is None else _column(name, kind).isin(listed)
    return pc.if_else(pc.field(name).is_valid(), inside, pc.scalar(pa.scalar(None, pa.bool_())))


def _column(name: str, kind: Any) -> Any:
    """The column as it is compared; of times and half floats Arrow compares other types only."""
    pa = pyarrow_of_metadata()
    import pyarrow.compute as pc

    column = pc.field(name)
    return column.cast(pa.float32()) if pa.types.is_float16(kind) else column


def _scalar(name: str, kind: Any, value: Any) -> Any:
    pa = pyarrow_of_metadata()
    types = pa.types
    is_number, is_text = type(value) in (int, float), isinstance(value, str)
    if types.is_boolean(kind):
        if isinstance(value, bool):
            return pa.scalar(value)
        raise _wrong(name, kind, "True and False", value)
    if _is_integer(kind) or types.is_floating(kind):
        if not is_number:
            raise _wrong(name, kind, "numbers", value)
        if types.is_float16(kind):
            return pa.scalar(float(np.float16(value)), pa.float32())
        return pa.scalar(float(value) if types.is_floating(kind) else value, kind)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        if is_text:
            return _in_unicode(value, kind)
        raise _wrong(name, kind, "texts", value)
    if types.is_temporal(kind) and not types.is_duration(kind):
        if is_text:
            return _moment(name, kind, value)
        raise _wrong(name, kind, "times as text", value)
    raise InputError(
        f"a condition must ask columns of type {kind} whether they are None, nothing else, got {name!r}"
    )


def _in_unicode(value: str, kind: Any) -> Any:
    pa = pyarrow_of_metadata()
    try:
        return pa.scalar(value, kind)
    except UnicodeError:
        raise InputError(f"a condition must have texts in Unicode, got {_short(value)}") from None


def _moment(name: str, kind: Any, value: str) -> Any:
    pa = pyarrow_of_metadata()
    import pyarrow.compute as pc

    if pa.types.is_time(kind):
        try:
            return pa.scalar(datetime.time.fromisoformat(value), kind)
        except ValueError:
            raise _wrong(name, kind, "times such as '10:30:00'", value) from None
    with_zone = pa.types.is_timestamp(kind) and kind.tz is not None
    try:
        try:
            return _in_unicode(value, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            if not with_zone:
                raise
            naive = _in_unicode(value, pa.string()).cast(pa.timestamp(kind.unit))  # in the zone of the column
            return pc.assume_timezone(naive, kind.tz)
    except pa.ArrowException:
        example = "'2020-06-01'" + (" or '2020-06-01 10:30:00'" if pa.types.is_timestamp(kind) else "")
        raise _wrong(name, kind, f"times such as {example}", value) from None


def _is_integer(kind: Any) -> bool:
    return bool(pyarrow_of_metadata().types.is_integer(kind))


def _beyond(kind: Any, value: Any) -> int:
    """1 or -1 where an integer is more or less than any of the column's type."""
    if not _is_integer(kind) or type(value) is not int:
        return 0
    signed = str(kind).startswith("int")
    most = (1 << (kind.bit_width - signed)) - 1
    least = -most - 1 if signed else 0
    return 1 if value > most else -1 if value < least else 0


def _wrong(name: str, kind: Any, wanted: str, value: Any) -> InputError:
    return InputError(f"a condition must compare {name!r} ({kind}) with {wanted}, got {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
