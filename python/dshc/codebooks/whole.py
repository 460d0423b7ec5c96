"""Whole numbers as arguments."""

from __future__ import annotations

import operator
from typing import SupportsIndex

__all__ = ["whole"]


def whole(name: str, value: SupportsIndex, least: int | None = None) -> int:
    """``value`` as an int; ``TypeError`` or ``ValueError`` naming it where it is none, or less than ``least``."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number
