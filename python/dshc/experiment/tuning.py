"""How a method is tuned: a grid of factors on its learning rate and on its one main weight, and where it goes on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError

__all__ = ["Grid", "GridSearch", "Point"]

Point = dict[str, float]
"""Settings by their names with their tables."""


@dataclass(frozen=True)
class Grid:
    """Factors by which the learning rate and the main weight of every method are tried; all pairs of them.

    A method without a main weight is tried at the rates alone, one without a training at nothing. ``widen``: where the
    best point lies at an edge, one beyond it is tried, as far from it as the one before; at most so many times.
    """

    lr: tuple[float, ...] = (0.3, 1.0, 3.0)
    weight: tuple[float, ...] = (0.1, 1.0, 10.0)
    widen: int = 0

    def __post_init__(self) -> None:
        for name in ("lr", "weight"):
            factors = getattr(self, name)
            numbers = isinstance(factors, Sequence) and not isinstance(factors, str)
            if not numbers or not all(isinstance(f, (int, float)) for f in factors):
                raise TypeError(f"{name} factors must be a list of numbers, got {factors!r}")
            if not factors or not all(0 < f < math.inf for f in factors) or len(set(factors)) < len(factors):
                raise InputError(
                    f"{name} factors must be different numbers above 0, at least one, got {factors}"
                )
        if type(self.widen) is not int or self.widen < 0:
            raise InputError(f"widen must be a whole number of at least 0, got {self.widen!r}")


class GridSearch:
    """The points of a grid around some values; each is told what came of it, then there may be more.

    ``values``: the learning rate, then perhaps the main weight, by name, as they are by default.
    """

    def __init__(self, grid: Grid, values: Mapping[str, float]) -> None:
        self.values = dict(values)
        self._factors = {
            name: sorted(factors) for name, factors in zip(self.values, (grid.lr, grid.weight), strict=False)
        }
        self._left = grid.widen
        self._found: dict[tuple[float, ...], float | None] = {}
        nearest = [sorted(factors, key=lambda f: abs(math.log(f))) for factors in self._factors.values()]
        self._asked = self._different(itertools.product(*nearest))

    def take(self) -> list[Point]:
        """The points to try next, the defaults first; none where the search is over."""
        if not self._asked and self._left:
            self._left -= 1
            self._asked = self._beyond()
        return [self._point(factors) for factors in self._asked]

    def tell(self, results: list[float | None]) -> None:
        """What came of the points taken, larger is better; None: nothing."""
        self._found |= zip(self._asked, results, strict=True)
        self._asked = []

    @property
    def tried(self) -> tuple[tuple[Point, float | None], ...]:
        """All points so far with what came of them."""
        return tuple((self._point(factors), value) for factors, value in self._found.items())

    @property
    def best(self) -> int | None:
        """Place of the best among those tried, the first of equals; None where nothing came of any."""
        known = [(value, -i) for i, value in enumerate(self._found.values()) if value is not None]
        return -max(known)[1] if known else None

    def _point(self, factors: tuple[float, ...]) -> Point:
        return {
            name: _rounded(value * factor)
            for (name, value), factor in zip(self.values.items(), factors, strict=True)
        }

    def _different(self, asked: Iterable[tuple[float, ...]]) -> list[tuple[float, ...]]:
        """Without points that are equal, once rounded, to one before."""
        points = [self._point(factors) for factors in self._found]
        different = []
        for factors in asked:
            if (point := self._point(factors)) not in points:
                points.append(point)
                different.append(factors)
        return different

    def _beyond(self) -> list[tuple[float, ...]]:
        """Past every edge that the best point lies at."""
        if self.best is None:
            return []
        best = list(self._found)[self.best]
        beyond = []
        for axis, factors in enumerate(self._factors.values()):
            if len(factors) < 2 or best[axis] not in (factors[0], factors[-1]):
                continue
            edge, before = (
                (factors[0], factors[1]) if best[axis] == factors[0] else (factors[-1], factors[-2])
            )
            further = edge * edge / before
            factors.append(further)
            factors.sort()
            beyond.append((*best[:axis], further, *best[axis + 1 :]))
        return self._different(beyond)


def _rounded(value: float) -> float:
    """Three digits: what is written is what was used."""
    return float(f"{value:.3g}")
