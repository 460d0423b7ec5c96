"""Conditions on metadata, typed as text: ``year >= 2020 and camera in ('A', 'B')``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InputError, did_you_mean
from .new_items import pyarrow_of_metadata

__all__ = ["predicate"]

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def predicate(text: str, columns: Sequence[str]) -> Any:
    """The Arrow expression of a condition.

    It knows columns, numbers, texts, ``True``, ``False`` and ``None`` (``camera is None``), comparisons (also chained),
    ``in`` a list, ``and``, ``or``, ``not`` and brackets; nothing is ever run. Raises :class:`InputError` saying what
    else stands there, or which values cannot be compared.

    >>> predicate("year >= 2020 and camera in ('A', 'B')", ["year", "camera"])
    <pyarrow.compute.Expression ((year >= 2020) and if_else(is_valid(camera), is_in(camera, {value_set=string:[
      "A",
      "B"
    ], null_matching_behavior=MATCH}), null[bool]))>
    """
    pa = pyarrow_of_metadata()
    import pyarrow.compute as pc

    not_values = (pa.ArrowException, OverflowError, UnicodeError)

    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"a condition must read like year >= 2020 and camera == 'A', got {text!r}") from None

    def condition(node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                joined = condition(values[0])
                for value in values[1:]:
                    joined = join(joined, condition(value))
                return joined
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~condition(operand)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [left, *comparators]
                found = [compared(a, op, b) for a, op, b in zip(sides, ops, sides[1:], strict=False)]
                joined = found[0]
                for more in found[1:]:
                    joined = joined & more
                return joined
            case ast.Name(id=name):
                return column(name)
        raise _not_known(node, text)

    def compared(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, (ast.In, ast.NotIn)):
            is_list = isinstance(right, (ast.Tuple, ast.List, ast.Set))
            items = right.elts if is_list else [right]  # type: ignore[attr-defined]  # ('A') is 'A' to Python
            inside = inside_of(value(left), [literal(item) for item in items])
            # A value that is missing is in no list and outside of none, under `not` too, as in SQL.
            inside = pc.if_else(value(left).is_valid(), inside, pc.scalar(pa.scalar(None, pa.bool_())))
            return inside if isinstance(op, ast.In) else ~inside
        if isinstance(op, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant) and right.value is None:
            missing = value(left).is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](value(left), value(right))
        raise _not_known(op, text)

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return column(node.id)
        found = literal(node)
        try:
            return pc.scalar(found)
        except not_values:
            raise InputError(
                f"a condition must have integers of 64 bits and texts in Unicode, got {_short(found)}"
            ) from None

    def inside_of(what: Any, values: list[Any]) -> Any:
        try:
            return what.isin(values)
        except not_values:
            raise InputError(
                f"a condition must have lists of values of one type, got {_short(values)}"
            ) from None

    def column(name: str) -> Any:
        if name not in columns:
            if (
                word := {"true": "True", "false": "False", "null": "None", "none": "None"}.get(name.lower())
            ) is not None:
                raise InputError(f"a condition must write {word} so, got {name!r} in {_short(text)}")
            known = ", ".join(columns) or "none"
            raise InputError(
                f"a condition must name columns of the metadata ({known}), got {name!r}{did_you_mean(name, columns)}"
            )
        return pc.field(name)

    def literal(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as found):
                return found
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as found)):
                return -found
        raise _not_known(node, text)

    try:
        return condition(tree)
    except RecursionError:
        raise InputError(f"a condition must be less deeply nested, got {_short(text)}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _not_known(node: ast.AST, text: str) -> InputError:
    what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__.lower()
    return InputError(
        f"a condition must consist of columns, values, comparisons, in, and, or, not, got {what!r} in {text!r}"
    )
