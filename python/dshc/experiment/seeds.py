"""One training over several seeds, with mean and spread; and settings over a grid of changes.

What trains is passed in: nothing here knows more of a run than that its settings can be changed by name and that an
:class:`dshc.evaluation.Evaluation` comes out.
"""

from __future__ import annotations

import itertools
import operator
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from ..errors import InputError
from ..evaluation import Evaluation

__all__ = ["SeedRow", "SeedTable", "Spread", "grid", "over_seeds"]


class Changeable(Protocol):
    """Settings of a run, as :class:`dshc.runs.RunSettings` is."""

    def with_values(self, **values: Any) -> Self:
        """These settings with some changed, by names such as ``runtime.seed``; checked again."""


S = TypeVar("S", bound=Changeable)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (0 of a single value) of ``n`` values."""

    mean: float
    stdev: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(
            statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values)
        )

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.stdev:.4f}"


@dataclass(frozen=True)
class SeedRow:
    """One run: its seed, mAP, class accuracy of the queries (multi-label: micro F1; None: unknown) and seconds."""

    seed: int
    mean_ap: float
    accuracy: float | None
    seconds: float
    n_query: int
    n_database: int


@dataclass(frozen=True)
class SeedTable:
    """The runs of one training over seeds, all measured under the same ``conventions`` with codes of ``n_bits``."""

    rows: tuple[SeedRow, ...]
    n_bits: int
    conventions: str

    @property
    def mean_ap(self) -> Spread:
        """Over the seeds."""
        return Spread.of([row.mean_ap for row in self.rows])

    @property
    def accuracy(self) -> Spread | None:
        """Over the seeds; None where a run has none."""
        values = [row.accuracy for row in self.rows if row.accuracy is not None]
        return Spread.of(values) if len(values) == len(self.rows) else None

    @property
    def seconds(self) -> Spread:
        """Over the seeds: training and evaluation, wall clock."""
        return Spread.of([row.seconds for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers: ``rows``, ``summary``, ``n_bits``, ``conventions``."""
        accuracy = self.accuracy
        return {
            "n_bits": self.n_bits,
            "conventions": self.conventions,
            "rows": [asdict(row) for row in self.rows],
            "summary": {
                "mean_ap": asdict(self.mean_ap),
                "accuracy": None if accuracy is None else asdict(accuracy),
                "seconds": asdict(self.seconds),
            },
        }

    def to_markdown(self) -> str:
        """A table: a row per seed, then means and standard deviations; below it the conventions."""
        lines = [
            "| seed | mAP | class accuracy (multi-label: micro F1) | seconds | queries | database |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.rows:
            accuracy = "" if row.accuracy is None else f"{row.accuracy:.4f}"
            lines.append(
                f"| {row.seed} | {row.mean_ap:.4f} | {accuracy} | {row.seconds:.0f} | {row.n_query} "
                f"| {row.n_database} |"
            )
        seconds, accuracy_spread = self.seconds, self.accuracy
        lines += [
            f"| mean ± standard deviation | {self.mean_ap} | {accuracy_spread or ''} "
            f"| {seconds.mean:.0f} ± {seconds.stdev:.0f} | | |",
            "",
            f"{self.conventions}, {self.n_bits} bits.",
        ]
        return "\n".join(lines) + "\n"


def over_seeds(
    settings: S,
    seeds: Iterable[int],
    *,
    train: Callable[[S], Evaluation],
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SeedTable:
    """Train and evaluate the same settings once per seed, one after the other.

    Args:
        settings: of a run; its ``runtime.seed`` is set.
        seeds: at least one, none twice.
        train: trains a run and returns its evaluation; its errors are passed on.
        folder: each run writes into ``seed-3`` of it (``out`` is set); None: ``out`` is left as it is.
        progress: told before the first run and after each how many of how many are done.

    Raises:
        ValueError: no seeds, one twice, or runs that were measured under different conventions.
        TypeError: a seed that is no int.
    """
    seeds = [_seed(seed) for seed in seeds]
    if not seeds:
        raise InputError("seeds must hold at least one seed, got none")
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise InputError(f"seeds must differ, got {', '.join(map(str, twice))} more than once")
    runs = [
        settings.with_values(**_changes(seed, folder)) for seed in seeds
    ]  # all, before hours of the first
    rows: list[SeedRow] = []
    measured: tuple[str, int] | None = None
    progress(0, len(seeds))
    for seed, run in zip(seeds, runs, strict=True):
        started = time.perf_counter()
        evaluation = train(run)
        rows.append(_row(seed, evaluation, time.perf_counter() - started))
        came = (str(evaluation.conventions), evaluation.n_bits)
        measured = measured or came
        if came != measured:
            raise InputError(
                f"all seeds must be measured alike, got {came[0]}, {came[1]} bits with seed {seed} and "
                f"{measured[0]}, {measured[1]} bits before"
            )
        progress(len(rows), len(seeds))
    assert measured is not None  # there is a seed
    return SeedTable(tuple(rows), n_bits=measured[1], conventions=measured[0])


def grid(settings: S, changes: Mapping[str, Sequence[Any]]) -> Iterator[S]:
    """The settings at every point of a grid: every name with each of its values, the last name fastest.

    All points are built, and so checked, before the first is given. No changes: the settings alone.

    Raises:
        ValueError: a name without values, or whatever the settings refuse.
        TypeError: values that are no sequence (a text is one value, and must stand in a list).

    >>> class Plain(dict):
    ...     def with_values(self, **values):
    ...         return Plain(self, **values)
    >>> list(grid(Plain(seed=0), {"bits": [16, 32], "seed": [1, 2]}))
    [{'seed': 1, 'bits': 16}, {'seed': 2, 'bits': 16}, {'seed': 1, 'bits': 32}, {'seed': 2, 'bits': 32}]
    """
    for name, values in changes.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise TypeError(f"{name} must be given a list of values, got {values!r}")
        if not values:
            raise InputError(f"{name} must be given at least one value, got none")
    points = itertools.product(*changes.values())
    return iter([settings.with_values(**dict(zip(changes, point, strict=True))) for point in points])


def _seed(seed: object) -> int:
    try:
        return operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"seeds must be ints, got {seed!r}") from None


def _changes(seed: int, folder: Path | None) -> dict[str, Any]:
    return {"runtime.seed": seed, **({} if folder is None else {"out": str(Path(folder) / f"seed-{seed}")})}


def _row(seed: int, evaluation: Evaluation, seconds: float) -> SeedRow:
    quality = evaluation.accuracy.get("queries", {})
    return SeedRow(
        seed=seed,
        mean_ap=evaluation.mean_ap,
        accuracy=quality.get("top_1", quality.get("micro_f1")),
        seconds=seconds,
        n_query=evaluation.n_query,
        n_database=evaluation.n_database,
    )
