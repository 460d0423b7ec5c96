"""Codes of a run: of the parts of its split, and of anything else a user names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ..data import IMAGE_SUFFIXES, Dataset, is_photos, load
from ..data.ahead import ahead
from ..data.image_files import ImageFiles
from ..data.image_fit import printable
from ..errors import InputError
from ..hasher import Hasher
from ..hasher.frozen import frozen_features
from ..hasher.hasher import encoding_batch
from ..progress import progress
from ..storage import CodeFile
from .run import Run, load_dataset

__all__ = [
    "encode_files",
    "encode_input",
    "encode_part",
    "inputs_of",
    "is_code_file",
    "model_name",
    "one_item",
    "outputs_of_items",
    "read_input",
    "stored_part",
]

_LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer ones


def is_code_file(path: Path) -> bool:
    """Whether ``path`` is a safetensors file that says it holds codes, damaged or not."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as file:  # the kind stands behind the names of classes, which may take some MiB
        size = int.from_bytes(file.read(8), "little")
        head = file.read(min(size, _LONGEST_HEADER))
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
    hasher, inputs = run.hasher, dataset.inputs
    if (behind := hasher.behind_backbone()) is not None:  # from the features that it was trained on
        hasher, inputs = behind, frozen_features(hasher, dataset)
    codes, predictions = _in_slices(f"encoding {len(items)} {part} items", hasher, inputs, items)
    ids = tuple(dataset.ids[i] for i in items) if dataset.ids is not None else tuple(map(str, items))
    file = _code_file(run, dataset, items, codes, ids)
    if keep:
        file.save(_part_path(run, part))
    return file, predictions


def outputs_of_items(run: Run, items: np.ndarray) -> Tensor:
    """Real-valued outputs of items of a run's data set, by their numbers: float32 ``(n, n_outputs)``, on the CPU."""
    hasher, inputs = run.hasher, run.dataset.inputs
    if (behind := hasher.behind_backbone()) is not None:
        hasher, inputs = behind, frozen_features(hasher, run.dataset)
    step = encoding_batch(hasher.seen_shape)
    slices = (inputs[items[start : start + step]] for start in range(0, len(items), step))
    return hasher.outputs(ahead(slices) if isinstance(inputs, ImageFiles) else slices).cpu()


def stored_part(run: Run, part: str) -> CodeFile:
    """The codes of a part as :func:`encode_part` left them; encoded anew where the model is another now."""
    path = _part_path(run, part)
    if path.is_file():
        try:
            file = CodeFile.load(path)
        except ValueError:  # damaged: they are found again
            file = None
        if file is not None and file.model == model_name(run):
            return file
    file = encode_part(run, part, keep=False)[0]
    try:
        return replace(file, path=file.save(path))
    except OSError as error:
        warnings.warn(f"{path}: codes are not kept ({error.strerror})", stacklevel=2)
        return file


def inputs_of(run: Run, part: str, rows: np.ndarray) -> np.ndarray:
    """What was encoded as these rows of the codes of a part: images uint8 ``(k, h, w, c)``, features ``(k, d)``.

    Of images in files only these are opened. Raises ``ValueError`` or ``OSError`` where the run's data set is not there
    any more, or is another now.
    """
    data = run.settings.data
    in_files = run.hasher.kind == "images" and is_photos(data.source)
    # A matrix of pairs has no rows of images that cannot be read: all must be read to know which these are.
    unchecked = in_files and not (data.skip_unreadable and data.pairs is not None)
    # Files may bear other names by now, and what the run left out as unreadable is known only once all is read: items
    # go by their names, where they have names of their own.
    known = in_files and (data.skip_unreadable or _part_path(run, part).is_file())
    names = stored_part(run, part) if known else None
    if "dataset" not in vars(run):
        values: dict[str, int] = {"data.max_memory_mib": 0}
        if in_files:
            values["data.n_channels"] = run.hasher.item_shape[2]
        settings = run.settings.with_values(**values)
        found = load_dataset(settings, check_images=not unchecked)
        if names is not None and len(set(found.ids or ())) == found.n_items:
            return found.inputs[_by_name(found, names, rows)]
        run.dataset = load_dataset(settings) if data.skip_unreadable else found
    return run.dataset.inputs[getattr(run.split, part)[rows]]


def _by_name(dataset: Dataset, codes: CodeFile, rows: np.ndarray) -> np.ndarray:
    """The items of a set, numbers ``(k,)``, that have the names and the labels of these rows of codes."""
    places = {name: place for place, name in enumerate(dataset.ids or ())}
    wanted = [codes.name_of(int(row)) for row in rows]
    if gone := [name for name in wanted if name not in places]:
        raise InputError(
            f"{dataset.name}: must hold the items that the run was trained on, got none called {gone[0]!r}"
        )
    items = np.array([places[name] for name in wanted], np.int64)
    same = dataset.class_names == codes.class_names and (
        codes.labels is None
        if dataset.labels is None
        else codes.labels is not None and np.array_equal(dataset.labels[items], codes.labels[rows])
    )
    if not same:
        raise InputError(f"{dataset.name}: must have the labels that the run was trained on, got others")
    return items


def read_input(
    source: str,
    run: Run,
    *,
    root: str | None = None,
    labels: str | None = None,
    max_memory_mib: int | None = None,
) -> Dataset:
    """Read what ``run`` is to encode; images are brought to the size and channels it was trained on.

    ``max_memory_mib``: images that decoded take more stay in their files; None: as the run's settings say.

    Unreadable images of a folder or list are left out where the run was trained so; a single one never is. An array
    of the shape of one item (an embedding ``(d,)``) is that item.
    """
    shape = run.hasher.item_shape
    dataset = one_item(source, run.hasher) if labels is None and root is None else None
    if dataset is None:
        images = {}
        if run.hasher.kind == "images" and is_photos(source):
            fit = run.hasher.image_fit
            images = {
                "image_size": (fit.height, fit.width),
                "n_channels": fit.n_channels,
                "interpolation": fit.interpolation,
                "skip_unreadable": run.settings.data.skip_unreadable and not _is_image(source),
                "max_memory_mib": run.settings.data.max_memory_mib
                if max_memory_mib is None
                else max_memory_mib,
            }
        dataset = load(source, root=root, labels=labels, require_labels=False, **images)
    if dataset.item_shape != shape:
        raise InputError(
            f"{source}: items must have the shape that the run was trained on, {shape}, got {dataset.item_shape}"
        )
    return dataset


def _is_image(source: str) -> bool:
    """Whether a source of photos is a single image file, rather than a folder or list of them."""
    path = Path(source)
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES


def one_item(source: str, hasher: Hasher) -> Dataset | None:
    """The one item that a .npy file holds; None where it holds several, or is none."""
    path = Path(source)
    if path.suffix != ".npy" or not path.is_file():
        return None
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # whoever reads it next says what is wrong
        return None
    kind, shape = hasher.kind, hasher.item_shape
    dtypes = "fiub" if kind == "features" else "u"
    if array.dtype.kind not in dtypes or not (array.shape == shape or array.ndim == len(shape) == 1):
        return None
    with np.errstate(over="ignore"):  # what overflows float32 becomes infinity and is refused by name
        values = np.array(array[None], np.float32 if kind == "features" else array.dtype)
    try:
        return Dataset(path.stem, kind, values, None, (), ids=(printable(path.name),))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def encode_input(run: Run, dataset: Dataset) -> tuple[CodeFile, np.ndarray | None]:
    """Encode every item of a set that the run was not trained on."""
    items = np.arange(dataset.n_items)
    codes, predictions = _in_slices(
        f"encoding {len(items)} item{'s' * (len(items) != 1)}", run.hasher, dataset.inputs, items
    )
    file = _code_file(run, dataset, items, codes, dataset.ids)
    return file, predictions


def encode_files(run: Run, paths: Sequence[str]) -> tuple[CodeFile, np.ndarray | None, ImageFiles]:
    """Encode image files one by one named, in their order; returns codes, predictions and the images.

    Raises ``ValueError`` naming the first that cannot be read.
    """
    step = encoding_batch(run.hasher.seen_shape)  # whole batches, so that slicing changes none
    with progress(f"encoding {len(paths)} image{'s' * (len(paths) != 1)}") as update:

        def slices() -> Iterator[Sequence[Path]]:
            for start in range(0, len(paths), step):
                yield [Path(path) for path in paths[start : start + step]]
                update(min(start + step, len(paths)), len(paths))

        codes, predictions = run.hasher.encode_and_predict(slices())
    ids = tuple(printable(Path(path).name) for path in paths)
    file = CodeFile(codes, run.hasher.n_bits, ids=ids, model=model_name(run), score=run.hasher.score)
    return file, predictions, ImageFiles(paths, run.hasher.image_fit)


def _in_slices(
    text: str, hasher: Hasher, inputs: np.ndarray | ImageFiles, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes and predictions of ``items``, some at a time under a progress bar."""
    step = encoding_batch(hasher.seen_shape)  # whole batches, so that slicing changes none
    with progress(text) as update:

        def slices() -> Iterator[np.ndarray]:
            for start in range(0, len(items), step):
                yield inputs[items[start : start + step]]
                update(min(start + step, len(items)), len(items))

        return hasher.encode_and_predict(ahead(slices()) if isinstance(inputs, ImageFiles) else slices())


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
