"""Codes of a run: of the parts of its split, and of anything else a user names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data import IMAGE_SUFFIXES, Dataset, available, load
from ..errors import InputError
from ..hasher.hasher import ENCODING_BATCH
from ..progress import progress
from ..storage import CodeFile
from .run import Run

__all__ = ["encode_input", "encode_part", "is_code_file", "model_name", "read_input", "stored_part"]

_SLICE = 4 * ENCODING_BATCH  # whole batches of Hasher.encode, so that slicing changes no batch


def is_code_file(path: Path) -> bool:
    """Whether ``path`` is a safetensors file that says it holds codes, damaged or not."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return b'"kind":"dshc.codes"' in head


def model_name(run: Run) -> str:
    """Method, code length and a digest of all that decides the codes: equal names, equal codes."""
    return f"{run.hasher.method.name} {run.hasher.n_bits} bits sha256:{run.digest}"


def encode_part(run: Run, part: str, *, keep: bool = True) -> tuple[CodeFile, np.ndarray | None]:
    """Encode the ``"query"`` or ``"database"`` items of a run's split; ``keep`` the codes in ``RUN/codes``.

    Returns the codes (labels and ids included) and the predicted classes.
    """
    items = getattr(run.split, part)
    if not len(items):
        raise InputError(
            f"{run.folder}: must have {part} items, its split (protocol {run.split.protocol}) has none"
        )
    dataset = run.dataset
    codes, predictions = _in_slices(f"encoding {len(items)} {part} items", run, dataset.inputs, items)
    ids = tuple(dataset.ids[i] for i in items) if dataset.ids is not None else tuple(map(str, items))
    file = _code_file(run, dataset, items, codes, ids)
    if keep:
        file.save(_part_path(run, part))
    return file, predictions


def stored_part(run: Run, part: str) -> CodeFile:
    """The codes of a part as :func:`encode_part` left them; encoded anew where the model is another now."""
    path = _part_path(run, part)
    if path.is_file():
        file = CodeFile.load(path)
        if file.model == model_name(run):
            return file
    return encode_part(run, part)[0]


def read_input(source: str, run: Run, *, root: str | None = None, labels: str | None = None) -> Dataset:
    """Read what ``run`` is to encode; images are brought to the size and channels it was trained on.

    Unreadable images of a folder are left out where the run was trained so; a single one never is.
    """
    shape = run.hasher.item_shape
    path = Path(source)
    from_files = source not in available() and (path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES)
    images = {}
    if from_files and run.hasher.kind == "images":
        images = {
            "image_size": (shape[0], shape[1]),
            "n_channels": shape[2],
            "skip_unreadable": run.settings.data.skip_unreadable and path.is_dir(),
        }
    dataset = load(source, root=root, labels=labels, require_labels=False, **images)
    if dataset.item_shape != shape:
        raise InputError(
            f"{source}: holds items of shape {dataset.item_shape}, the run was trained on {shape}"
        )
    return dataset


def encode_input(run: Run, dataset: Dataset) -> tuple[CodeFile, np.ndarray | None]:
    """Encode every item of a set that the run was not trained on."""
    items = np.arange(dataset.n_items)
    codes, predictions = _in_slices(f"encoding {len(items)} items", run, dataset.inputs, items)
    file = _code_file(run, dataset, items, codes, dataset.ids)
    return file, predictions


def _in_slices(
    text: str, run: Run, inputs: np.ndarray, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes and predictions of ``items``, some at a time under a progress bar."""
    with progress(text) as update:

        def slices() -> Iterator[np.ndarray]:
            for start in range(0, len(items), _SLICE):
                yield inputs[items[start : start + _SLICE]]
                update(min(start + _SLICE, len(items)), len(items))

        return run.hasher.encode_and_predict(slices())


def _code_file(
    run: Run, dataset: Dataset, items: np.ndarray, codes: np.ndarray, ids: tuple[str, ...] | None
) -> CodeFile:
    return CodeFile(
        codes=codes,
        n_bits=run.hasher.n_bits,
        labels=None if dataset.labels is None else dataset.labels[items],
        ids=ids,
        class_names=dataset.class_names,
        model=model_name(run),
        score=run.hasher.score,
    )


def _part_path(run: Run, part: str) -> Path:
    return run.folder / "codes" / f"{part}.safetensors"
