"""Conditions on metadata, typed as text: ``year >= 2020 and camera in ('A', 'B')``."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError, did_you_mean
from .column_values import compared as compared_with
from .column_values import is_among, shown
from .layout import Layout
from .new_items import pyarrow_of_metadata, schema_of

__all__ = ["column_types", "predicate"]

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


# Texts, which may hold anything, and names in backquotes.
_PIECES = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]*)`""", re.DOTALL)


def predicate(text: str, columns: Mapping[str, Any]) -> Any:
    """The Arrow expression of a condition on columns, whose Arrow types are given by name.

    It knows columns, numbers, texts, ``True``, ``False`` and ``None`` (``camera is None``), comparisons (also chained),
    ``in`` a list, ``and``, ``or``, ``not`` and brackets; nothing is ever run. Names with blanks, or that mean something
    here (class, in), stand in backquotes. Raises :class:`InputError` saying what else stands there, or which values
    cannot be compared.

    >>> import pyarrow
    >>> predicate("year >= 2020 and camera is not None", {"year": pyarrow.int32(), "camera": pyarrow.string()})
    <pyarrow.compute.Expression ((year >= 2020) and invert(is_null(camera, {nan_is_null=false})))>
    """
    pa = pyarrow_of_metadata()
    import pyarrow.compute as pc

    quoted: dict[str, str] = {}
    mark = "_q"
    while mark in text:
        mark += "q"

    def without_backquotes(piece: re.Match[str]) -> str:
        if piece[1] is None:
            return piece[0]
        word = f"{mark}{len(quoted)}"
        quoted[word] = piece[1]
        return f" {word} "

    plain = _PIECES.sub(without_backquotes, text)
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
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
            case ast.Name():
                return column(node)
        raise _not_known(node, text, quoted)

    def compared(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, (ast.In, ast.NotIn)):
            is_list = isinstance(right, (ast.Tuple, ast.List, ast.Set))
            items = right.elts if is_list else [right]  # type: ignore[attr-defined]  # ('A') is 'A' to Python
            values = [literal(item) for item in items]
            # A value that is missing is in no list and outside of none, under `not` too, as in SQL.
            if not isinstance(left, ast.Name):
                raise _not_known(left, text, quoted)
            inside = is_among(name_of(left), columns[name_of(left)], values)
            return inside if isinstance(op, ast.In) else ~inside
        if isinstance(op, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant) and right.value is None:
            missing = value(left).is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        if type(op) not in _COMPARISONS:
            raise _not_known(op, text, quoted)
        comparison = _COMPARISONS[type(op)]
        for one, other, turned in ((left, right, False), (right, left, True)):
            if isinstance(one, ast.Name) and not isinstance(other, ast.Name):
                name = name_of(one)
                return compared_with(name, columns[name], comparison, literal(other), turned=turned)
        return comparison(value(left), value(right))

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return column(node)
        found = literal(node)
        try:
            return pc.scalar(found)
        except (pa.ArrowException, OverflowError, UnicodeError):
            raise InputError(
                f"a condition must have integers of 64 bits and texts in Unicode, got {shown(found)}"
            ) from None

    def column(node: ast.Name) -> Any:
        return pc.field(name_of(node))

    def name_of(node: ast.Name) -> str:
        name = quoted.get(node.id, node.id)
        if name not in columns:
            if (
                word := {"true": "True", "false": "False", "null": "None", "none": "None"}.get(name.lower())
            ) is not None:
                raise InputError(f"a condition must write {word} so, got {name!r} in {shown(text)}")
            known = ", ".join(columns) or "none"
            raise InputError(
                f"a condition must name columns of the metadata ({known}), got {name!r}{did_you_mean(name, columns)}"
            )
        return name

    def literal(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as found):
                return found
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as found)):
                return -found
        raise _not_known(node, text, quoted)

    try:
        return condition(tree)
    except RecursionError:
        raise InputError(f"a condition must be less deeply nested, got {shown(text)}") from None


def column_types(layout: Layout) -> dict[str, Any]:
    """The Arrow types of the metadata of an index, by column; without pyarrow none, where there are no columns."""
    return {field.name: field.type for field in schema_of(layout)} if layout.metadata else {}


def _not_known(node: ast.AST, text: str, quoted: Mapping[str, str]) -> InputError:
    what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__.lower()
    for word, name in quoted.items():
        what = re.sub(rf"\b{word}\b", lambda _, name=name: f"`{name}`", what)
    return InputError(
        f"a condition must consist of columns, values, comparisons, in, and, or, not, got {what!r} in {text!r}"
    )
