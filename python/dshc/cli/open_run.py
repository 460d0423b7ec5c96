"""The run that a user names."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..runs import Run, load_run
from ..runs.run import load_dataset

__all__ = ["open_run"]


def open_run(
    folder: Path, *, source: str | None = None, root: str | None = None, labels: str | None = None
) -> Run:
    """The run in a folder; ``FileNotFoundError`` or ``ValueError`` naming it where there is none.

    ``source``, ``root``, ``labels``: where its data set lies now, if not where its settings say. Items of another kind
    or shape are refused, and other labels than it was trained on when its split is read.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such run folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: must be a run folder, it is a file")
    run = load_run(folder)
    if source is None and root is None and labels is None:
        return run
    data = run.settings.data
    if source is not None:  # a root is of the source that it was said with
        data = data.replaced(source=source, root=None)
    now = {name: value for name, value in (("root", root), ("labels", labels)) if value is not None}
    dataset = load_dataset(run.settings.replaced(data=data.replaced(**now)))
    hasher = run.hasher
    if (dataset.kind, dataset.item_shape) != (hasher.kind, hasher.item_shape):
        raise InputError(
            f"{data.source}: items must be {hasher.kind} of shape {hasher.item_shape}, as the run's were, got "
            f"{dataset.kind} of shape {dataset.item_shape}"
        )
    run.dataset = dataset
    return run
