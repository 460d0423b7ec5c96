"""What a comparison found: a row for every contestant and length, over its seeds; as text, JSON and Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..methods.nested import NestedSettings
from ..storage import write_whole
from .seeds import Spread
from .trial import Trial

__all__ = ["ComparisonTable", "Group", "Result", "Tuning", "results_of", "markdown_table"]

_COST = {
    "seconds": None,
    "peak_mib": None,
    "jobs": 1,
}  # and what files of earlier versions mean, which lack them
JSON_FILE, MARKDOWN_FILE = "table.json", "table.md"


@dataclass(frozen=True)
class Result:
    """Codes of one training, or why there are none.

    ``label`` names the contestant, with ``+ itq`` and the like for post-processed codes; ``run`` is its folder,
    relative to the comparison's. ``numbers`` is a row of ``measured.json`` with what the training cost.
    """

    label: str
    bits: int
    seed: int
    run: str
    numbers: dict[str, Any] | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Tuning:
    """What was tried for a contestant: settings and validation mAP of each (None: failed), and what was chosen.

    Nothing tried and something chosen: it was taken over from another comparison.
    """

    label: str
    tried: tuple[tuple[dict[str, Any], float | None], ...]
    chosen: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """The results of one label and length over seeds."""

    label: str
    bits: int
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(r.failure for r in self.results if r.failure is not None)

    def spread(self, name: str) -> Spread | None:
        """Mean and deviation over the seeds; None where a training has no such number."""
        values = [r.numbers[name] for r in self.results if r.numbers is not None]
        if not values or any(value is None for value in values):
            return None
        return Spread.of(values)

    def at_k(self, k: int) -> Spread | None:
        """mAP at one of the further cut-offs."""
        return self._within("at_k", str(k))

    def of_queries(self, name: str) -> Spread | None:
        """mAP of some of the queries."""
        return self._within("groups", name)

    def _within(self, kind: str, name: str) -> Spread | None:
        values = [r.numbers.get(kind, {}).get(name) for r in self.results if r.numbers is not None]
        return None if not values or None in values else Spread.of(values)


def results_of(trial: Trial) -> list[Result]:
    """What a trial gives: a result for each of its codes, or one that says why there is none."""
    settings, run = trial.settings, f"runs/{trial.name}/run"
    seed = settings.runtime.seed
    measured, trained = trial.measured(), trial.trained()
    bits = settings.method.bits or 0
    shorter = settings.method.shorter(bits) if isinstance(settings.method, NestedSettings) else ()
    contestant = trial.contestant + (", nested" if shorter else "")
    if measured is None or trained is None:
        why = trial.failure() or "not carried out"
        return [Result(contestant, length, seed, run, failure=why) for length in (*shorter, bits)]
    results = []
    for row in measured["rows"]:
        label = contestant + (f" + {row['variant']}" if row["variant"] else "")
        cost = {f"train_{name}": trained.get(name, default) for name, default in _COST.items()}
        results.append(Result(label, row["bits"], seed, run, {**row, **cost, "split": trained["split"]}))
    return results


@dataclass(frozen=True)
class ComparisonTable:
    """All results, and how each contestant was tuned. ``facts`` is what all share."""

    results: tuple[Result, ...]
    tunings: tuple[Tuning, ...]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        known = [r for r in self.results if r.numbers is not None]
        for seed in {r.seed for r in known}:
            splits = {r.numbers["split"] for r in known if r.seed == seed}  # type: ignore[index]
            if len(splits) > 1:
                raise InputError(
                    f"all methods must be given one split per seed, got {len(splits)} for {seed}"
                )

    @property
    def groups(self) -> tuple[Group, ...]:
        """By label in the order given, then by length."""
        labels = list(dict.fromkeys(r.label for r in self.results))
        keys = sorted({(labels.index(r.label), r.bits) for r in self.results})
        return tuple(
            Group(labels[i], bits, tuple(r for r in self.results if (r.label, r.bits) == (labels[i], bits)))
            for i, bits in keys
        )

    @property
    def conventions(self) -> tuple[str, ...]:
        """Under which the numbers are: one for methods that are ranked by Hamming distance, one for overlap."""
        found = (r.numbers["conventions"] for r in self.results if r.numbers is not None)
        return tuple(dict.fromkeys(found))

    @property
    def cuts(self) -> tuple[int, ...]:
        """The further cut-offs of mAP."""
        found = (r.numbers["at_k"] for r in self.results if r.numbers is not None)
        return tuple(sorted({int(k) for at_k in found for k in at_k}))

    @property
    def query_groups(self) -> tuple[str, ...]:
        """The groups of queries that have an mAP of their own."""
        found = (r.numbers.get("groups", {}) for r in self.results if r.numbers is not None)
        return tuple(dict.fromkeys(name for groups in found for name in groups))

    def columns(self) -> list[str]:
        """The names of the columns of :meth:`rows`."""
        return [
            "method",
            "bits",
            "mAP",
            *(f"mAP@{k}" for k in self.cuts),
            *(f"mAP, {name}" for name in self.query_groups),
            "cosine mAP",
            "accuracy",
            "precision r<=2",
            "empty balls",
            "distinct codes",
            "bit entropy",
            "training s",
            "peak MiB",
            "encode us",
            "search us",
        ]

    def rows(self) -> list[list[str]]:
        """A row of text per group: means over seeds, ± their deviation where there are several."""
        return [self._row(group) for group in self.groups]

    def _row(self, group: Group) -> list[str]:
        if group.failures and all(r.numbers is None for r in group.results):
            return [
                group.label,
                str(group.bits),
                f"failed: {group.failures[0]}",
                *[""] * (len(self.columns()) - 3),
            ]
        row = [
            group.label,
            str(group.bits),
            _shown(group.spread("mean_ap"), 4),
            *(_shown(group.at_k(k), 4) for k in self.cuts),
            *(_shown(group.of_queries(name), 4) for name in self.query_groups),
            _shown(group.spread("cosine_map"), 4),
            _shown(group.spread("accuracy"), 4),
            _shown(group.spread("precision_radius_2"), 4),
            _shown(group.spread("empty_balls_2"), 4),
            _shown(group.spread("distinct"), 0, deviation=False),
            _shown(group.spread("bit_entropy"), 3, deviation=False),
            _shown(group.spread("train_seconds"), 1, deviation=False),
            _shown(group.spread("train_peak_mib"), 0, deviation=False),
            _shown(group.spread("encode_us"), 1, deviation=False),
            _shown(group.spread("search_us"), 1, deviation=False),
        ]
        if group.failures:
            row[2] += f" ({len(group.failures)} of {len(group.results)} failed)"
        return row

    def tuning_rows(self) -> list[list[str]]:
        """Method, what was tried with its validation mAP, what was chosen."""
        return [
            [
                tuning.label,
                "; ".join(f"{_named(point)}: {_value(found)}" for point, found in tuning.tried)
                or ("taken from another comparison" if tuning.chosen else "nothing to tune"),
                _named(tuning.chosen) or "its defaults",
            ]
            for tuning in self.tunings
        ]

    def notes(self) -> list[str]:
        """What a reader must know to read the numbers."""
        facts = self.facts
        known = next((r.numbers for r in self.results if r.numbers is not None), None)
        notes = [f"Conventions: {text}." for text in self.conventions]
        if known is not None:
            over = f"; ± is the deviation over {facts['seeds']} seeds" if facts["seeds"] > 1 else "; one seed"
            notes.append(
                f"{facts['data']}: {known['n_query']} queries, {known['n_database']} database items, "
                f"{facts['n_classes']} classes{over}."
            )
            notes.append(
                "cosine mAP: of the real values before binarising"
                f" ({known['cosine_queries']} queries). Encoding: behind a frozen backbone, from its features. "
                f"Search: the nearest {known['search_k']} of the database. Seconds of training are without reading "
                "the data and without the features of a frozen backbone." + self._shared()
            )
        return notes

    def _shared(self) -> str:
        """Of trainings that had the machine not to themselves: how many there were at a time."""
        jobs = {r.numbers.get("train_jobs", 1) for r in self.results if r.numbers is not None}
        if jobs <= {1}:
            return ""
        return f" Trained {' or '.join(map(str, sorted(jobs)))} at a time."

    def to_dict(self) -> dict[str, Any]:
        """Plain content: ``facts``, ``results``, ``tunings``."""
        return {
            "facts": self.facts,
            "conventions": list(self.conventions),
            "results": [asdict(r) for r in self.results],
            "tunings": [asdict(t) for t in self.tunings],
        }

    @classmethod
    def load(cls, folder: Path) -> ComparisonTable:
        """The table that :meth:`save` wrote into a folder; raises ``FileNotFoundError`` where there is none."""
        path = folder / JSON_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tunings = tuple(
                Tuning(t["label"], tuple((point, value) for point, value in t["tried"]), t["chosen"])
                for t in content["tunings"]
            )
            return cls(tuple(Result(**r) for r in content["results"]), tunings, content["facts"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: damaged, or not of a comparison ({error})") from None

    def to_markdown(self) -> str:
        """The table, what it is under, and the tuning."""
        lines = [*markdown_table(self.columns(), self.rows()), "", *self.notes()]
        if any(tuning.tried or tuning.chosen for tuning in self.tunings):
            lines += ["", *markdown_table(["method", "tried: validation mAP", "chosen"], self.tuning_rows())]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path) -> None:
        """Write ``table.json`` and ``table.md``."""
        write_whole(folder / JSON_FILE, json.dumps(self.to_dict(), indent=1) + "\n")
        write_whole(folder / MARKDOWN_FILE, self.to_markdown())


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    cells = [[_cell(text) for text in row] for row in (columns, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|" + " --- |" * len(columns), *lines[1:]]


def _cell(text: str) -> str:
    """In one line, and no markup: a name, or the message of an error."""
    return " ".join(re.sub(r"<(?=[A-Za-z/!])", "&lt;", text.replace("|", "\\|")).split())


def _shown(spread: Spread | None, digits: int, *, deviation: bool = True) -> str:
    if spread is None:
        return ""
    text = f"{spread.mean:.{digits}f}"
    return f"{text} ± {spread.stdev:.{digits}f}" if deviation and spread.n > 1 else text


def _named(point: dict[str, Any]) -> str:
    return ", ".join(f"{name.partition('.')[2]} {value:g}" for name, value in point.items())


def _value(found: float | None) -> str:
    return "failed" if found is None else f"{found:.4f}"
