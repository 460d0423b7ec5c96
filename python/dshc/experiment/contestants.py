"""The contestants of a comparison: a method, perhaps with settings of its own, as ``dshc:construction=cpbc``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import methods
from ..data import Dataset
from ..errors import InputError
from ..runs import RunSettings
from ..runs.settings import fields_of, find
from ..training.plan import label_kind

__all__ = ["Contestant", "contestants"]

_DECIDED = {"method.bits", "method.lengths", "method.name", "runtime.seed"}  # for each training
_SHARED = ("data.", "encoder.", "runtime.", "optim.batch_size")  # by all: data, split, network, batches


@dataclass(frozen=True)
class Contestant:
    """A method with settings; ``label`` as it was given, which names it in tables. ``own``: the names of those settings
    that the label gives, with their table."""

    label: str
    settings: RunSettings
    own: frozenset[str] = field(default_factory=frozenset)

    @property
    def method(self) -> type[methods.Method]:
        return methods.get(self.settings.method.name)

    @property
    def nests(self) -> bool:
        """Whether it can train several lengths at once."""
        return "lengths" in self.method.Settings.model_fields


def contestants(settings: RunSettings, labels: Sequence[str], dataset: Dataset) -> list[Contestant]:
    """The contestants of these labels, in their order, with ``settings`` but for their own.

    ``all`` stands for every method that takes the labels of the set. A label is a method's name, then any
    ``:NAME=VALUE``: a setting of the method, or with its table of another (``dpsh:optim.lr=0.05``).

    Raises :class:`InputError` for an unknown method or setting, one that all must share, a method that does not take
    the labels, or the same twice.
    """
    kind = label_kind(dataset)
    expanded: list[str] = []
    for label in labels:
        fitting = [name for name in methods.available() if kind in methods.get(name).label_kinds]
        expanded += [name for name in fitting if name not in labels] if label == "all" else [label]
    if twice := sorted({label for label in expanded if expanded.count(label) > 1}):
        raise InputError(f"methods must differ, got {', '.join(twice)} more than once")
    if not expanded:
        raise InputError("methods must name at least one, got none")
    found = [_contestant(settings, label) for label in expanded]
    known: dict[tuple[str, frozenset[str]], str] = {}
    for contestant in found:
        # What a label sets itself is not tuned: a default that it names is another contestant than one left open.
        other = known.setdefault((contestant.settings.fingerprint(), contestant.own), contestant.label)
        if other != contestant.label:
            raise InputError(
                f"methods must differ, got {other} and {contestant.label}, which are the same settings"
            )
    of_method = settings.method.model_dump(exclude_defaults=True, exclude={"name", "bits"})
    for contestant in found:
        if of_method and contestant.method.name != settings.method.name:
            name, value = next(iter(of_method.items()))
            raise InputError(
                f"{name} must stand with its method, as in {settings.method.name}:{name}={value}, got it for all, "
                f"{contestant.label} among them"
            )
        if kind not in contestant.method.label_kinds:
            takes = " or ".join(methods.base.describe_labels(k) for k in contestant.method.label_kinds)
            raise InputError(
                f"{contestant.label} must be given items with {takes}, got {methods.base.describe_labels(kind)}"
            )
    return found


def _contestant(settings: RunSettings, label: str) -> Contestant:
    name, *assignments = label.split(":")
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"a method's settings must be NAME=VALUE, got {text!r} in {label!r}")
        try:
            values[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = value.strip()
    try:
        method = methods.get(name)
        own = frozenset(".".join(find(key, fields_of(method.Settings))) for key in values)
        if decided := sorted(own & _DECIDED):
            raise InputError(f"{decided[0]} must be left to the comparison")
        if shared := sorted(name for name in own if name.startswith(_SHARED)):
            raise InputError(
                f"{shared[0]} must be the same for all methods; give it to the comparison itself"
            )
        return Contestant(label, settings.with_values(method=name, **values), own)
    except InputError as error:
        raise InputError(f"{label}: {error}" if assignments else str(error)) from None
