"""The base of every layer's settings: a frozen model whose fields are described, bounded and checked.

A layer states its settings once, in a subclass of :class:`Settings`; defaults, bounds, messages, TOML, flags and
the tables of ``dshc methods`` are read from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .errors import InputError, did_you_mean, shortened

__all__ = ["Settings", "choices", "identity", "plain_type", "setting"]


def setting(default: Any, text: str, *, result: bool = True, later: bool = False, **bounds: Any) -> Any:
    """A field with its description; ``bounds`` are pydantic's (``ge``, ``gt``, ``le``, ``lt``).

    ``result`` says whether the setting decides what comes out; where files lie, how many threads run and on which
    device does not, so that such settings may change between a run and its continuation. ``later``: what was trained
    before there was such a setting is the same training as one with its default.
    """
    return Field(default, description=text, json_schema_extra={"result": result, "later": later}, **bounds)


class Settings(BaseModel):
    """Settings of one layer. Unknown names and wrong values raise :class:`InputError`, which names the setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InputError(_describe(type(self), first)) from None

    @model_validator(mode="before")
    @classmethod
    def _plainly(cls, values: Any) -> Any:
        """Paths as text, and numbers of numpy as those of Python."""
        if not isinstance(values, Mapping):
            return values
        return {name: _plain(value) for name, value in values.items()}

    def replaced(self, **values: Any) -> Self:
        """These settings with some of them changed, checked again."""
        return type(self)(**{**self.values(), **values})

    def values(self) -> dict[str, Any]:
        """Every setting by name."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, (np.integer, np.floating, np.bool_)) else value


def identity(settings: Settings) -> dict[str, Any]:
    """The settings that decide what comes out, by name; without those of later that are at their defaults."""
    fields = type(settings).model_fields
    found = {}
    for name, value in settings.values().items():
        extra: dict[str, Any] = fields[name].json_schema_extra or {}  # type: ignore[assignment]
        if extra.get("result", True) and not (extra.get("later") and value == fields[name].default):
            found[name] = identity(value) if isinstance(value, Settings) else value
    return found


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The values that a field of ``Literal`` type may have, None aside; empty for other types."""
    for kind in _alternatives(field):
        if get_origin(kind) is Literal:
            return tuple(str(value) for value in get_args(kind) if value is not None)
    return ()


def plain_type(field: FieldInfo) -> type:
    """The type of a field without None: str (also for ``Literal``), int, float, bool, or what else it is."""
    kind = next(kind for kind in _alternatives(field) if kind is not type(None))
    kind = get_origin(kind) or kind
    return kind if isinstance(kind, type) else str


def _alternatives(field: FieldInfo) -> tuple[Any, ...]:
    """The types of a union; of anything else, that alone."""
    kind = field.annotation
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _describe(model: type[Settings], error: ErrorDetails) -> str:
    """pydantic's error in the words of this program."""
    inner = (error.get("ctx") or {}).get("error")
    problem, place, came = error["type"], error["loc"], _shown(error.get("input"))
    # Beside numbers of elements, what stands in a place behind the name are members of unions.
    name = ".".join(str(part) for i, part in enumerate(place) if i == 0 or isinstance(part, int))
    field = model.model_fields.get(str(place[0])) if place else None
    if problem == "value_error" and inner is not None:  # raised by a check of ours, which names the setting
        nested = field is not None and issubclass(plain_type(field), Settings)
        return f"{name}: {inner}" if nested and not str(inner).startswith(f"{name} ") else str(inner)
    if problem == "extra_forbidden":
        known = list(model.model_fields)
        return f"unknown setting {name!r}{did_you_mean(name, known) or '; it must be one of ' + ', '.join(known)}"
    if problem == "missing":
        return f"{name} must be given, got nothing"
    if field is not None and len(place) > 1 and isinstance(place[1], int):
        return f"{name}: {error['msg']}, got {came}"
    if field is not None and problem == "literal_error":
        known = choices(field)
        near = did_you_mean(error["input"], known) if isinstance(error["input"], str) else ""
        return f"{name} must be {_kinds(field)}, got {came}{near}"
    if problem == "finite_number":
        return f"{name} must be a finite number, got {came}"
    if field is not None and (bounds := _bounds(field, problem)):
        return f"{name} must be {bounds}, got {came}"
    if field is not None and problem.endswith("_type"):
        return f"{name} must be {_kinds(field)}, got {came}"
    return f"{name}: {error['msg']}, got {came}"


def _kinds(field: FieldInfo) -> str:
    """What a field may hold, in words."""
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        type(None): "nothing",
    }
    known = choices(field)
    described = []
    for kind in _alternatives(field):
        plain = get_origin(kind) or kind
        described.append(
            f"one of {', '.join(known)}"
            if plain is Literal
            else words.get(plain, getattr(plain, "__name__", str(plain)))
        )
    return " or ".join(described)


def _shown(value: object) -> str:
    text = repr(value)
    return shortened(text)


def _bounds(field: FieldInfo, problem: str) -> str:
    if not problem.startswith(("greater_than", "less_than")):
        return ""
    low: str = ""
    high: str = ""
    for bound in field.metadata:
        match bound:
            case Ge(ge=value):
                low = f"at least {value}"
            case Gt(gt=value):
                low = f"more than {value}"
            case Le(le=value):
                high = f"at most {value}"
            case Lt(lt=value):
                high = f"less than {value}"
    return " and ".join(part for part in (low, high) if part)
