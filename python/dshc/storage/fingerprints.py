"""Fingerprints: equal for equal content, on every machine; what cannot be hashed faithfully is refused."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["fingerprint"]

_VERSION = 1  # goes into every fingerprint, so that a change of the rules below matches nothing older


def fingerprint(content: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over plain content, whatever the order of its names.

    Takes None, bool, int, finite float, str, lists, tuples (equal to lists) and mappings of text names; 1, 1.0 and
    True are three things, 0.0 and -0.0 one. Raises ``TypeError`` naming the part that is something else, for an
    object's ``repr`` may differ between two runs of the same program, and ``ValueError`` naming one that is not
    finite.

    >>> fingerprint({"a": 1, "b": [2, "x"]}) == fingerprint({"b": [2, "x"], "a": 1})
    True
    """
    plain = _plain(content, "content")
    text = json.dumps([_VERSION, plain], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any, name: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")
        return value + 0.0  # -0.0, which is equal to 0.0 and reads otherwise, becomes it
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} must have text names, got {key!r}")
        return {key: _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{name} must be plain (number, text, list, mapping), got {type(value).__name__}")
