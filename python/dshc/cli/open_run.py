"""The run that a user names."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..runs import Run, load_run

__all__ = ["open_run"]


def open_run(folder: Path) -> Run:
    """The run in a folder; ``FileNotFoundError`` or ``ValueError`` naming it where there is none."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such run folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: must be a run folder, it is a file")
    return load_run(folder)
