"""``dshc train`` and ``dshc demo``: train, then measure and report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs import Run, RunSettings, train
from ..runs.run_folder import RunFolder
from ..runs.settings import told_by_toml
from ..training import Interrupted, Processes
from .console import remark, say, stopped
from .evaluate import measure_run

__all__ = ["run_demo", "run_train"]


def run_train(
    source: str | None,
    values: Mapping[str, Any],
    *,
    config_file: Path | None,
    resume: bool,
    overwrite: bool,
    report: bool,
) -> None:
    """Train by a data source, a TOML file or both (flags win over the file), or continue an interrupted run."""
    values = {"data.source": source, **values}  # --set data.source wins
    source = values["data.source"]
    if resume and overwrite:
        raise InputError("--resume continues a run and --overwrite replaces it; give one of them")
    if resume:
        told = {} if config_file is None else told_by_toml(config_file)
        settings = _stored({**told, **{name: value for name, value in values.items() if value is not None}})
        try:
            settings = settings.with_values(**told)
        except InputError as error:
            raise InputError(f"{config_file}: {error}") from None
    elif config_file is not None:
        settings = RunSettings.from_toml(config_file)
    elif source is not None:
        settings = RunSettings()
    else:
        raise InputError("name a data SOURCE (dshc train digits), or give settings with --config FILE")
    _train_and_measure(settings.with_values(**values), resume=resume, overwrite=overwrite, report=report)


def run_demo(
    *, out: Path, bits: int, seed: int, epochs: int | None, threads: int | None, report: bool
) -> None:
    """Train DSHC on scikit-learn's digits and show every step; replaces an earlier run in the same folder."""
    settings = RunSettings.of(source="digits", bits=bits, seed=seed, epochs=epochs, threads=threads, out=out)
    run = _train_and_measure(settings, resume=False, overwrite=True, report=report)
    say()
    folder = shlex.quote(str(run.folder))
    steps = {
        f"dshc search {folder} --item 0": "the ten training images nearest to the first query",
        f"dshc evaluate {folder} --k 100": "other cut-offs, tie rules, denominators",
        "dshc train FOLDER": "the same with your own images, one sub-folder per class",
    }
    width = max(map(len, steps))
    say("next:")
    for command, purpose in steps.items():
        say(f"  {command:{width}}   {purpose}")


def _train_and_measure(settings: RunSettings, *, resume: bool, overwrite: bool, report: bool) -> Run:
    try:
        run = train(settings, resume=resume, overwrite=overwrite, on_event=_tell)
    except Interrupted as stop:
        raise stopped(stop, stop.signal_name) from None
    if not Processes.is_first():
        return run
    split = run.split
    say(split.summary())
    metrics = run.metrics
    seconds = sum(row["seconds"] for row in metrics)
    epochs = sum(row["epoch"] > 0 for row in metrics)
    what = f"trained {epochs} epochs" if epochs else "fitted"
    say(f"{what} in {seconds:.1f} s; weights and settings in {run.folder}")
    chosen = next((row for row in metrics if row["epoch"] == run.epoch), {})
    if chosen.get("validation_map") is not None:
        conventions = chosen["validation_conventions"]
        say(f"selected epoch {run.epoch}: validation {chosen['validation_map']:.4f} ({conventions})")
    if not len(split.query):
        say("no queries, so nothing to measure: dshc encode and dshc search use the run as it is")
        return run
    measured = measure_run(run, report=report)
    say(measured.evaluation.line(), style="bold")
    for line in measured.evaluation.accuracy_lines():
        say(line)
    say(f"numbers: {run.folder / 'evaluation.json'}")
    if report:
        say(f"report:  {run.folder / 'report.html'}")
    return run


def _tell(event: str, values: dict[str, Any]) -> None:
    """Says before a training what was read for it, and what was left out."""
    if event == "read" and values["text"]:
        remark(values["text"])


def _stored(values: Mapping[str, Any]) -> RunSettings:
    """The settings of the run to resume, from its own folder; flags that differ are refused by ``train``."""
    out, source = values.get("out"), values.get("data.source")
    if out is None and source is None:
        raise InputError("--resume needs the run folder: dshc train --resume --out RUN")
    return RunFolder.of(out, str(source)).settings
