"""``dshc compare``: methods under one protocol, a table, a plot and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..evaluation import Conventions, check_cut
from ..experiment import ComparisonTable, Grid, compare
from ..experiment.perform import trained_run
from ..progress import progress
from ..report import report_run, write_comparison
from ..runs import RunSettings, evaluate_run
from ..runs.settings import default_folder
from ..training import Interrupted
from .console import remark, say, stopped, table

__all__ = ["run_compare"]

T = TypeVar("T", int, float)


def run_compare(
    source: str,
    values: Mapping[str, Any],
    *,
    methods: str,
    bits: str,
    seeds: int,
    seeds_at: str | None,
    out: Path | None,
    factors: tuple[str, str] | None,
    widen: int,
    tuned: Path | None,
    nested: bool,
    post: str | None,
    ks: tuple[int, ...],
    jobs: int,
    as_json: bool,
    run_reports: bool,
) -> None:
    """Compare, print the table, write the page; texts of several values are parted by commas."""
    settings = RunSettings().with_values(**{"data.source": source, **values})
    folder = out or Path(f"{default_folder(settings.data.source)}-compared")
    grid = None
    if factors is not None:
        lr, weight = (
            _numbers(text, float, name) for text, name in zip(factors, ("lr", "weight"), strict=True)
        )
        grid = Grid(lr, weight, widen)
    conventions = Conventions(ks=tuple(check_cut("--k", cut) for cut in ks))
    try:
        with progress("trainings") as update:
            found = compare(
                settings,
                _names(methods),
                bits=_numbers(bits, int, "bits"),
                seeds=seeds,
                seeds_at=None if seeds_at is None else _numbers(seeds_at, int, "seeds_at"),
                out=folder,
                grid=grid,
                tuned=tuned,
                nested=nested,
                postprocessing=_names(post or ""),
                conventions=conventions,
                jobs=jobs,
                tell=remark,
                progress=update,
            )
    except Interrupted as stop:
        raise stopped(stop, stop.signal_name) from None
    if run_reports:
        _write_run_reports(folder, found, conventions, settings)
    page = write_comparison(folder, found)
    if as_json:
        say(json.dumps(found.to_dict(), allow_nan=False))
        return
    columns = found.columns()
    table("", columns, found.rows(), numeric="l" + "r" * (len(columns) - 1))
    for note in found.notes():
        say(note)
    say(f"numbers: {folder / 'table.json'}, {folder / 'table.md'}")
    say(f"report:  {page}")


def _write_run_reports(
    folder: Path, found: ComparisonTable, conventions: Conventions, settings: RunSettings
) -> None:
    """The pages of the runs of seed 0 that have none yet; the comparison's links them."""
    runs = dict.fromkeys(folder / r.run for r in found.results if r.numbers is not None and r.seed == 0)
    missing = [run for run in runs if not (run / "report.html").is_file()]
    with progress("pages of runs") as update:
        for i, path in enumerate(missing):
            update(i, len(missing))
            run = trained_run(path, settings)
            report_run(run, evaluate_run(run, conventions))


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, kind: Callable[[str], T], name: str) -> tuple[T, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{name} must be numbers with commas between, as in 16,32, got {text!r}") from None
