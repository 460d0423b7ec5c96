"""The files of a run folder: what is a run's own, when a folder may take one, how a run is replaced.

A folder holds a run as soon as it holds its config.toml, which is written first and removed last; killed in
between, what is left is still known for a run.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from .checkpoint import CHECKPOINT, Position
from .config import Config
from .data import Split
from .files import remove_left_overs, write_whole
from .methods import Method

__all__ = ["check_folder", "open_folder", "write_metrics"]

CONFIG = "config.toml"
# What training, encoding and evaluation write; nothing else in the folder is ever removed.
RUN_FILES = ("model.safetensors", "best.safetensors", "metrics.jsonl", "codebook.safetensors", "split.json")
RUN_FILES += ("evaluation.json", "report.html")
RUN_FOLDERS = (str(CHECKPOINT.parent), "codes", "report")


def check_folder(folder: Path, config: Config, *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse a folder that a run of ``config`` must not take; changes nothing.

    Refused are a run that is to be neither continued nor replaced, files of a run's names where there is no
    run (whose else are they?), and to continue a run that is not there or was made with other settings.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out: {folder} is a file, expected a folder")
    if resume:
        _check_same_settings(folder, config)
    elif not (folder / CONFIG).exists():
        for name in (*RUN_FILES, *RUN_FOLDERS):
            if (folder / name).exists():
                raise ValueError(
                    f"out: {folder} is no run, but holds {name}, which a run would replace; take another folder"
                )
    elif not overwrite:
        raise ValueError(
            f"out: {folder} holds a run; continue it with --resume, replace it with --overwrite, "
            "or take another folder"
        )
    else:
        Config.from_run(folder)  # refuses a config.toml of something else


def open_folder(
    folder: Path, config: Config, split: Split, method: Method, position: Position, *, resume: bool
) -> None:
    """Bring a checked run folder to ``position``: what a run starts with, or what it held at its checkpoint.

    Unless it is to ``resume``, a run that is already in the folder is removed.
    """
    for name in (CONFIG, *RUN_FILES, CHECKPOINT):
        remove_left_overs(folder / name)
    if not resume:
        if (folder / CONFIG).exists():
            _remove_run(folder)
        config.save(folder / CONFIG)
    if resume and ((folder / "split.json").is_file() or (folder / CHECKPOINT).is_file()):
        if Split.load(folder / "split.json") != split:
            raise ValueError(f"{folder / 'split.json'}: another split than the data and settings give now")
    else:
        split.save(folder / "split.json")
    codebook = method.codebook()
    if codebook is not None and not (folder / "codebook.safetensors").is_file():
        codebook.save(folder / "codebook.safetensors")
    write_metrics(folder, position)


def write_metrics(folder: Path, position: Position) -> None:
    """Write the history so far as metrics.jsonl."""
    write_whole(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in position.history))


def _check_same_settings(folder: Path, config: Config) -> None:
    stored, asked = (dataclasses.asdict(c) for c in (Config.from_run(folder), config))
    free = {"out", "root", "device", "threads", "checkpoint_every"}
    for name in sorted(asked.keys() - free):
        if stored[name] != asked[name]:
            raise ValueError(f"{name}: got {asked[name]!r}, the run in {folder} has {stored[name]!r}")


def _remove_run(folder: Path) -> None:
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in RUN_FOLDERS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    (folder / CONFIG).unlink()
