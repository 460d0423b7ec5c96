"""A run folder, read again: its settings, its hasher, and the data and split it was trained on."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import data, methods
from ..data import Dataset, LabelsError, Split
from ..data.item_labels import LABEL_KINDS
from ..errors import InputError
from ..hasher import Hasher
from ..training.plan import check_label_kind
from .run_folder import RunFolder
from .settings import RunSettings

__all__ = ["Run", "file_digest", "load_dataset", "load_run", "split_of"]

Weights = Literal["best", "last"]


class Run:
    """A trained hasher with its surroundings; made by :func:`load_run` and :func:`dshc.train`.

    Attributes: ``folder``, ``settings``, ``hasher``; ``weights`` (``"best"`` or ``"last"``) and ``epoch``, which
    epoch's weights these are; ``digest``, by which codes know what made them. ``dataset`` and ``split`` are read when
    first asked for: encoding other items needs neither.
    """

    def __init__(
        self, folder: RunFolder, hasher: Hasher, weights: Weights, digest: str, dataset: Dataset | None = None
    ) -> None:
        self._folder, self.hasher, self.weights, self.digest = folder, hasher, weights, digest
        if dataset is not None:
            self.__dict__["dataset"] = dataset

    def __repr__(self) -> str:
        return (
            f"Run({str(self.folder)!r}, {self.hasher.method.name}, {self.hasher.n_bits} bits, {self.weights})"
        )

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def settings(self) -> RunSettings:
        return self._folder.settings

    @property
    def epoch(self) -> int:
        return int(self.hasher.about["epoch"])

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the run, loaded again from where its settings say."""
        return load_dataset(self.settings)

    @cached_property
    def split(self) -> Split:
        """The split of the run, checked against the data set's labels."""
        path = self.folder / "split.json"
        split = Split.load(path, self.dataset)
        self._folder.check_owner(path, split.run)
        return split

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch."""
        return self._folder.read_metrics()

    def encode(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Packed codes uint8 ``(b, bytes)`` and predictions of items of the run's data set, by their numbers."""
        return self.hasher.encode_and_predict(self.dataset.inputs[items])


def load_run(
    folder: str | os.PathLike[str],
    *,
    weights: Weights | None = None,
    device: str | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """The run in ``folder``, with the weights selected on the validation split or those of the last epoch.

    ``weights`` None: the selected ones, or the last where the run has no validation, hence no selection. ``device``
    overrides the settings'; ``dataset`` is the run's where it has been read before. Raises ``FileNotFoundError`` or
    ``ValueError`` naming the file that is missing, damaged or of another run.
    """
    found = RunFolder.read(Path(folder))
    settings = found.settings
    if weights is None:
        best = (found.path / "best.safetensors").is_file() or not _unselected(found)
        weights = "best" if settings.data.validation > 0 and best else "last"
    path = found.path / f"{weights}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(_why_missing(path, found))
    if device is None:  # what was trained on a GPU is of use without
        device = "auto" if settings.runtime.device == "cuda" else settings.runtime.device
    hasher = Hasher.load(path, device=device)
    found.check_owner(path, hasher.about.get("run"), hasher.about.get("settings"))
    return Run(found, hasher, weights, file_digest(path), dataset)


def load_dataset(settings: RunSettings, *, any_labels: bool = False, check_images: bool = True) -> Dataset:
    """The data set that settings name, with labels that their method can use; one without any only for such a method.

    ``data.pairs``: labels are recovered from pairs, or the method gets these. ``any_labels``: the kind of labels is of
    no matter where there are some. ``check_images``: see
    :func:`dshc.data.load`. Raises ``ValueError``; what is wrong about labels is found before images are decoded.
    """
    source = settings.data
    takes = tuple(kind for kind in methods.get(settings.method.name).label_kinds if kind in LABEL_KINDS)
    if by_pairs := source.pairs is not None:
        takes = LABEL_KINDS
    elif source.recover is not None:
        raise InputError(f"recover must go with pairs, got {source.recover}")
    try:
        dataset = data.load(
            source.source,
            root=source.root,
            image_size=source.image_size,
            interpolation=source.interpolation or "bilinear",
            labels=source.labels,
            n_channels=source.n_channels,
            skip_unreadable=source.skip_unreadable,
            max_memory_mib=source.max_memory_mib,
            require_labels="none" not in takes,
            label_kinds=("ids", "multi-hot") if any_labels and not by_pairs else takes,
            check_images=check_images,
        )
    except LabelsError as error:
        if error.kind != "none":
            check_label_kind(error.kind, settings.method.name)  # which names the methods that fit
        raise
    if not by_pairs:
        return dataset
    from .pair_sets import with_pairs  # and with it scipy, which nothing else waits for

    return with_pairs(dataset, settings)


def split_of(dataset: Dataset, settings: RunSettings) -> Split:
    """The split that settings name; raises ``ValueError`` where their protocol does not fit the set."""
    return data.make_split(
        dataset,
        settings.data.protocol,
        seed=settings.runtime.seed,
        validation=settings.data.validation,
        train_per_class=settings.data.train_per_class,
        unseen_classes=settings.data.unseen_classes,
    )


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _unselected(folder: RunFolder) -> bool:
    """Whether a finished run selected nothing (no class had a validation item to be found)."""
    try:
        rows = folder.read_metrics()
    except (InputError, OSError):
        return False
    return bool(rows) and all(row.get("validation_map") is None for row in rows)


def _why_missing(path: Path, folder: RunFolder) -> str:
    other = folder.path / ("last.safetensors" if path.name == "best.safetensors" else "best.safetensors")
    if path.name == "best.safetensors" and other.is_file():
        return (
            f"{path}: no such file, though the run is finished: the selected weights are lost; put the file back, "
            "train again with --overwrite, or take the last weights (load_run(..., weights='last'))"
        )
    return f"{path}: no such file; the run is not finished, continue it with --resume"
