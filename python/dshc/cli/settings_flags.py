"""Flags made of settings: a name, a type, a help and a heading each; and what was given, as settings by table."""

from __future__ import annotations

import functools
import inspect
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from .. import methods
from ..errors import InputError
from ..methods import MethodSettings
from ..runs.settings import TABLES, RunSettings
from ..settings import choices, plain_type
from .options import PANELS, flag

__all__ = ["as_values", "method_flags", "options"]

_NOT_FLAGS = {"data.source", "method.name"}  # the argument, and --method


@functools.cache
def options() -> tuple[Any, ...]:
    """The options as click has them, made by typer from a function that nobody calls."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _annotations().items()
    ]

    def nothing(**_: Any) -> None: ...

    nothing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    nothing.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(nothing)
    command = typer.main.get_command(app)
    return tuple(command.params)


def method_flags() -> frozenset[str]:
    """The flags of the method and of its settings, as parameters."""
    return frozenset(name for name, setting in _tables().items() if setting.partition(".")[0] == "method")


def as_values(given: Mapping[str, object], assignments: Sequence[str]) -> dict[str, object]:
    """What the flags and ``--set table.name=value`` gave, by table and name; the latter win.

    A value of ``--set`` is TOML; what is none is text. Of several for one setting the last wins.
    """
    tables = _tables()
    # As the flags call them, so that one setting is not there under two names.
    own_names = {**tables, "source": "data.source", "name": "method", "method.name": "method"}
    values = {tables[name]: value for name, value in given.items() if value is not None}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set must be TABLE.NAME=VALUE, such as optim.lr=0.05, got {text!r}")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        name = name.strip()
        values[own_names.get(name, name)] = parsed
    return values


def _annotations() -> dict[str, Any]:
    annotations: dict[str, Any] = {}
    for table, name, field, text in _fields():
        if table == "method" and "method" not in annotations:
            known = ", ".join(methods.available())
            annotations["method"] = Annotated[str | None, flag(f"Hashing method: {known}.", PANELS["method"])]
        kind = plain_type(field)
        switch = f"--{_dashed(name)}/--no-{_dashed(name)}" if kind is bool else f"--{_dashed(name)}"
        metavar = None if kind is bool else "|".join(choices(field)) or None
        option = flag(_sentence(text), PANELS[table], switch, metavar=metavar)
        annotations[name] = Annotated[kind | None, option]
    return annotations


def _fields() -> list[tuple[str, str, FieldInfo, str]]:
    """Table, name, field and help of every setting that has a flag; one of several methods comes once."""
    found: dict[str, tuple[str, str, FieldInfo, str]] = {}
    for table in TABLES:
        if table == "method":
            continue
        model = RunSettings.model_fields[table].annotation
        for name, field in model.model_fields.items():
            if f"{table}.{name}" not in _NOT_FLAGS:
                found[name] = (table, name, field, field.description or "")
    owners: dict[str, list[str]] = {}
    for method in methods.available():
        for name, field in methods.get(method).Settings.model_fields.items():
            if f"method.{name}" in _NOT_FLAGS:
                continue
            if name in found and found[name][0] != "method":
                continue  # another table has the flag; --set method.NAME=VALUE reaches this one
            owners.setdefault(name, []).append(method)
            found.setdefault(name, ("method", name, field, field.description or ""))
    for name, of in owners.items():
        table, _, field, _ = found[name]
        found[name] = (table, name, field, _help_of(name, of))
    order = {table: number for number, table in enumerate(TABLES)}
    return sorted(found.values(), key=lambda entry: order[entry[0]])


def _help_of(name: str, owners: list[str]) -> str:
    """What a setting of some methods is, by whose; what all have, as the base of all says it."""
    if name in MethodSettings.model_fields:
        return MethodSettings.model_fields[name].description or ""
    by_text: dict[str, list[str]] = {}
    for owner in owners:
        by_text.setdefault(methods.get(owner).Settings.model_fields[name].description or "", []).append(owner)
    if len(by_text) == 1 and len(owners) == len(methods.available()):
        return next(iter(by_text))
    return "; ".join(f"{', '.join(of)}: {text}" for text, of in by_text.items())


def _tables() -> dict[str, str]:
    """``table.name`` of every flag's parameter."""
    return {name: f"{table}.{name}" for table, name, _, _ in _fields()} | {"method": "method"}


def _sentence(text: str) -> str:
    """With a full stop, and a capital unless it starts with a name: ``small_net, mlp`` or ``dshc: ...``."""
    first = text.split()[0]
    return f"{first[0].upper() if first.isalpha() else first[0]}{text[1:]}."


def _dashed(name: str) -> str:
    return name.replace("_", "-")
