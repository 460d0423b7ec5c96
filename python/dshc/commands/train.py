"""``dshc train`` and ``dshc demo``: train, then measure and report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from ..config import Config, default_folder
from ..run import Run
from ..training import Interrupted, train
from .console import remark, say
from .evaluate import evaluate_run

__all__ = ["run_demo", "run_train"]


def run_train(
    source: str | None,
    flags: Mapping[str, object],
    *,
    config_file: Path | None,
    resume: bool,
    overwrite: bool,
    report: bool,
) -> None:
    """Train by a data source, a TOML file or both (flags win over the file), or continue an interrupted
    run.
    """
    flags = {"dataset": source, **flags}
    if resume and overwrite:
        raise ValueError("--resume continues a run and --overwrite replaces it; give one of them")
    if resume and config_file is None:
        config = _stored_config(flags)
    elif config_file is not None:
        config = Config.from_toml(config_file, **flags)
    elif source is not None:
        config = Config().override(**flags)
    else:
        raise ValueError("name a data SOURCE (dshc train digits), or give settings with --config FILE")
    _train_and_measure(config, resume=resume, overwrite=overwrite, report=report)


def run_demo(
    *, out: Path, bits: int, seed: int, epochs: int | None, threads: int | None, report: bool
) -> None:
    """Train DSHC on scikit-learn's digits and show every step; replaces an earlier run in the same folder."""
    config = Config().override(
        dataset="digits", bits=bits, seed=seed, epochs=epochs, threads=threads, out=str(out)
    )
    run = _train_and_measure(config, resume=False, overwrite=True, report=report)
    say()
    folder = shlex.quote(str(run.folder))
    steps = {
        f"dshc search {folder} --item 0": "the ten training images nearest to the first query",
        f"dshc evaluate {folder} --k 100": "other cut-offs, tie rules, denominators",
        "dshc train FOLDER": "the same with your own images, one sub-folder a class",
    }
    width = max(map(len, steps))
    say("next:")
    for command, purpose in steps.items():
        say(f"  {command:{width}}   {purpose}")


def _train_and_measure(config: Config, *, resume: bool, overwrite: bool, report: bool) -> Run:
    try:
        run = train(config, resume=resume, overwrite=overwrite)
    except Interrupted as stop:
        remark(f"dshc: {stop}")
        raise SystemExit(130) from None
    say(run.split.summary())
    metrics = run.metrics
    seconds = sum(row["seconds"] for row in metrics)
    say(f"trained {len(metrics)} epochs in {seconds:.1f} s; weights and settings in {run.folder}")
    chosen = metrics[run.epoch - 1] if 0 < run.epoch <= len(metrics) else {}
    if chosen.get("validation_map") is not None:
        conventions = chosen["validation_conventions"]
        say(f"selected epoch {run.epoch}: validation {chosen['validation_map']:.4f} ({conventions})")
    evaluation = evaluate_run(run, report=report)
    say(evaluation.line(), style="bold")
    for line in evaluation.accuracy_lines():
        say(line)
    say(f"numbers: {run.folder / 'evaluation.json'}")
    if report:
        say(f"report:  {run.folder / 'report.html'}")
    return run


def _stored_config(flags: Mapping[str, object]) -> Config:
    """The settings of the run to resume, from its own folder; flags that differ are refused by ``train``."""
    out, source = flags.get("out"), flags["dataset"]
    if out is None and source is None:
        raise ValueError("--resume needs the run folder: dshc train --resume --out RUN")
    folder = Path(str(out) if out is not None else default_folder(str(source)))
    if not (folder / "config.toml").is_file():
        raise ValueError(f"{folder}: holds no run to resume (config.toml is missing)")
    return Config.from_toml(folder / "config.toml", **{**flags, "out": str(folder)})
