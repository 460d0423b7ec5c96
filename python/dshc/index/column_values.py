"""What a condition compares a column with: values of the column's own type."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError, shortened
from .new_items import pyarrow_of_metadata

__all__ = ["compared", "is_among", "shown"]

_TURNED = {
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.gt: operator.lt,
    operator.ge: operator.le,
}
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?")
_Comparison = Callable[[Any, Any], Any]


def compared(name: str, kind: Any, operation: _Comparison, value: Any, *, turned: bool = False) -> Any:
    """The expression of ``name operation value`` for a column of Arrow type ``kind``; ``turned``: of value, column.

    The value counts as the column's type has it (0.1 of float32 as float32 has it, times as text), so that ``==`` and
    ``in`` agree. Null where the column is. Raises :class:`InputError` for a value of another kind.
    """
    import pyarrow.compute as pc

    operation = _TURNED.get(operation, operation) if turned else operation
    if _is_integer(kind) and type(value) is float:
        if not value.is_integer():
            return operation(_column(name, kind).cast("float64", safe=False), value)
        value = int(value)
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
    listed = pa.concat_arrays([pa.array([one], one.type) for one in scalars]) if scalars else None
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
        return _floating(kind, value) if types.is_floating(kind) else pa.scalar(value, kind)
    if types.is_string(kind) or types.is_large_string(kind):
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


def _floating(kind: Any, value: Any) -> Any:
    """As the type has it; what it has no room for is infinite."""
    pa = pyarrow_of_metadata()
    try:
        number = float(value)
    except OverflowError:
        number = np.inf if value > 0 else -np.inf
    if pa.types.is_float16(kind):
        with np.errstate(over="ignore"):
            rounded = float(np.float16(number))
        return pa.scalar(number if np.isinf(rounded) else rounded, pa.float32())  # the column, too
    return pa.scalar(number, kind)


def _in_unicode(value: str, kind: Any) -> Any:
    pa = pyarrow_of_metadata()
    try:
        return pa.scalar(value, kind)
    except UnicodeError:
        raise InputError(f"a condition must have texts in Unicode, got {shown(value)}") from None


def _moment(name: str, kind: Any, value: str) -> Any:
    pa = pyarrow_of_metadata()
    try:
        if pa.types.is_time(kind):
            return _time_of_day(kind, value)
        return _in_unicode(value, pa.string()).cast(kind)
    except (ValueError, pa.ArrowException):
        example = "'10:30:00'" if pa.types.is_time(kind) else "'2020-06-01'"
        if pa.types.is_timestamp(kind):
            example += " or '2020-06-01 10:30:00'"
        raise _wrong(name, kind, f"times such as {example}", value) from None


def _time_of_day(kind: Any, value: str) -> Any:
    """``ValueError`` for another text, and for fractions that the type does not have."""
    pa = pyarrow_of_metadata()
    found = _TIME.fullmatch(value)
    if not found:
        raise ValueError
    hours, minutes, seconds = (int(part or 0) for part in found.group(1, 2, 3))
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError
    nanoseconds = (hours * 3600 + minutes * 60 + seconds) * 10**9 + int((found[4] or "0").ljust(9, "0"))
    units, rest = divmod(nanoseconds, {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[kind.unit])
    if rest:
        raise ValueError
    return pa.scalar(units, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


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
    return InputError(f"a condition must compare {name!r} ({kind}) with {wanted}, got {shown(value)}")


def shown(value: Any) -> str:
    if type(value) is int and value.bit_length() > 1000:  # Python writes no number of thousands of digits
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return shortened(text)
