"""What a comparison is told, checked before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import InputError
from ..runs import RunSettings

__all__ = ["integers", "names", "refuse_decided", "rising"]


def refuse_decided(settings: RunSettings) -> None:
    """Refuse what a comparison decides for each of its trainings."""
    if settings.runtime.seed != RunSettings().runtime.seed:
        raise InputError(f"seed must be left to a comparison, which has several, got {settings.runtime.seed}")
    if settings.out is not None:
        raise InputError(f"out of the settings must be left to a comparison, got {settings.out}")


def names(name: str, given: object) -> tuple[str, ...]:
    """A list of texts; ``TypeError`` naming the argument that is another thing."""
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
    if found is None or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{name} must be a list of names, got {given!r}")
    return found


def integers(name: str, given: object) -> tuple[int, ...]:
    """A list of whole numbers; ``TypeError`` naming the argument that is another thing."""
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
    if found is None or not all(
        isinstance(one, (int, np.integer)) and type(one) is not bool for one in found
    ):
        raise TypeError(f"{name} must be a list of whole numbers, got {given!r}")
    return tuple(map(int, found))


def rising(bits: Sequence[int]) -> tuple[int, ...]:
    """Lengths, each once, the shortest first."""
    lengths = tuple(sorted(set(bits)))
    if not lengths or lengths[0] < 1:
        raise InputError(f"bits must be at least one length, each at least 1, got {list(bits)}")
    if len(lengths) < len(bits):
        raise InputError(f"bits must differ, got {', '.join(map(str, bits))}")
    return lengths
