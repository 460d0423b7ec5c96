"""The run that a user names."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..runs import Run, load_run
from ..runs.run import load_dataset

__all__ = ["open_run"]


def open_run(folder: Path, *, source: str | None = None, root: str | None = None) -> Run:
    """The run in a folder; ``FileNotFoundError`` or ``ValueError`` naming it where there is none.

    ``source``, ``root``: where its data set lies now, if not where its settings say. Other labels than it was trained
    on are refused when its split is read.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such run folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: must be a run folder, it is a file")
    run = load_run(folder)
    if source is not None or root is not None:
        now = {name: value for name, value in (("source", source), ("root", root)) if value is not None}
        run.dataset = load_dataset(run.settings.with_values(**now))
    return run
