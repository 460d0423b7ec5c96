"""From what a user names on the command line to codes: runs, code files, images, embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data import IMAGE_SUFFIXES, Dataset, available, load
from ..index import CodeFile
from ..progress import progress
from ..run import Run, load_run

__all__ = [
    "encode_input",
    "encode_part",
    "is_code_file",
    "model_name",
    "open_run",
    "read_input",
    "stored_part",
]


_SLICE = 4 * 1024  # whole batches of Run.encode, so that slicing changes no batch


def is_code_file(path: Path) -> bool:
    """Whether ``path`` is a safetensors file that says it holds codes, damaged or not."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return b'"kind":"dshc.codes"' in head


def open_run(folder: Path) -> Run:
    """The run in a folder; FileNotFoundError or ValueError naming the folder where there is none."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such run folder")
    return load_run(folder)


def model_name(run: Run) -> str:
    """Method, code length and a digest of all that decides the codes: equal names, equal codes."""
    config = run.config
    settings = (config.method, config.topk, config.weighting, config.label_threshold, config.precision)
    digest = hashlib.sha256(repr(settings).encode())
    weights = {"best": "best.safetensors", "last": "model.safetensors"}[run.weights]
    for path in (run.folder / weights, run.folder / "codebook.safetensors"):
        if path.is_file():
            digest.update(path.read_bytes())
    return f"{config.method} {run.method.n_bits} bits sha256:{digest.hexdigest()[:16]}"


def encode_part(run: Run, part: str, *, keep: bool = True) -> tuple[CodeFile, np.ndarray]:
    """Encode the ``"query"`` or ``"database"`` items of a run's split; ``keep`` the codes in ``RUN/codes``.

    Returns the codes (labels and ids included) and the predicted classes.
    """
    items = getattr(run.split, part)
    dataset = run.dataset
    codes, predictions = _in_slices(f"encoding {len(items)} {part} items", run.encode, items)
    file = CodeFile(
        codes=codes,
        n_bits=run.method.n_bits,
        labels=dataset.labels[items],
        ids=tuple(dataset.ids[i] for i in items) if dataset.ids is not None else tuple(map(str, items)),
        class_names=dataset.class_names,
        model=model_name(run),
        score=run.method.score,
    )
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
    shape = run.item_shape
    path = Path(source)
    from_files = source not in available() and (path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES)
    images = {}
    if from_files and len(shape) == 3:
        images = {
            "image_size": (shape[0], shape[1]),
            "n_channels": shape[2],
            "skip_unreadable": run.config.skip_unreadable and path.is_dir(),
        }
    return load(source, root=root, labels=labels, require_labels=False, **images)


def encode_input(run: Run, dataset: Dataset) -> tuple[CodeFile, np.ndarray]:
    """Encode every item of a set that the run was not trained on."""
    codes, predictions = _in_slices(f"encoding {dataset.n_items} items", run.encode_inputs, dataset.inputs)
    file = CodeFile(
        codes=codes,
        n_bits=run.method.n_bits,
        labels=dataset.labels,
        ids=dataset.ids,
        class_names=dataset.class_names,
        model=model_name(run),
        score=run.method.score,
    )
    return file, predictions


def _in_slices(
    text: str, encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], items: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and predictions of ``items``, some at a time under a progress bar."""
    codes, predictions = [], []
    with progress(text) as update:
        for start in range(0, len(items), _SLICE):
            code, prediction = encode(items[start : start + _SLICE])
            codes.append(code)
            predictions.append(prediction)
            update(min(start + _SLICE, len(items)), len(items))
    return np.concatenate(codes), np.concatenate(predictions)


def _part_path(run: Run, part: str) -> Path:
    return run.folder / "codes" / f"{part}.safetensors"
