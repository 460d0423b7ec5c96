"""The hashing methods, each a loss over a network's outputs and a rule that turns outputs into codes.

A new method is one file here: a subclass of :class:`Method`, entered in the table below.
"""

from __future__ import annotations

from .base import Method
from .dshc import DSHC
from .dshc_multilabel import DSHCMultiLabel

__all__ = ["DSHC", "DSHCMultiLabel", "Method", "available", "get"]

_METHODS: dict[str, type[Method]] = {method.name: method for method in (DSHC, DSHCMultiLabel)}


def available() -> tuple[str, ...]:
    """The names that :func:`get` takes."""
    return tuple(_METHODS)


def get(name: str) -> type[Method]:
    """The method of that name; raises ``ValueError`` naming the known ones.

    >>> get("dshc").name
    'dshc'
    """
    if name not in _METHODS:
        raise ValueError(f"method: got {name!r}, expected one of {', '.join(_METHODS)}")
    return _METHODS[name]
