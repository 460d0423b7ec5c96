"""Labelled sets, and which of their items are queries, database, training and validation.

``load`` reads a named set, a folder of class folders or a file of embeddings; ``make_split`` cuts it by a
named protocol.

>>> from dshc.data import load, make_split
>>> digits = load("digits")
>>> digits.inputs.shape, digits.n_classes
((1797, 8, 8, 1), 10)
>>> split = make_split(digits, seed=0)
>>> len(split.query), len(split.database)
(360, 1437)
"""

from __future__ import annotations

import os
from pathlib import Path

from .cifar import load_cifar
from .dataset import Dataset
from .digits import load_digits
from .embeddings import SUFFIXES as ARRAY_SUFFIXES
from .embeddings import load_arrays
from .folder import IMAGE_SUFFIXES, load_flat_images, load_folder, read_images
from .idx import load_idx
from .protocols import Split, make_split, protocols

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGE_SUFFIXES",
    "Dataset",
    "Split",
    "available",
    "load",
    "make_split",
    "protocols",
    "read_images",
]

_NAMED = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "cifar100-coarse")


def available() -> tuple[str, ...]:
    """The named sets that ``load`` knows; all but ``digits`` need their official files on disk."""
    return _NAMED


def load(
    source: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    labels: str | os.PathLike[str] | None = None,
    n_channels: int | None = None,
    skip_unreadable: bool = False,
    require_labels: bool = True,
) -> Dataset:
    """Read a whole set into memory.

    ``source``: a name of ``available()`` (a folder of that name is meant by ``./name``), a folder with one
    sub-folder of images a class, or a file ``.npy``, ``.npz`` or ``.safetensors`` (see ``load_arrays`` for
    what it may hold).

    * ``root``: where the official files of a named set lie; else the variable ``DSHC_DATA_ROOT``, else
      ``./data``.
    * ``image_size``: side or ``(height, width)`` to which images of a folder are brought; 64 where not given.
    * ``labels``: a file of labels for an array file: ``.npy``, or ``.txt`` with one class name a line.
    * ``n_channels``: 1 or 3 to have images of a folder as grey or RGB; otherwise grey where every file is
      grey.
    * ``skip_unreadable``: leave out images that cannot be read, with a warning, where otherwise the first one
      raises.
    * ``require_labels``: with False, also a single image, a folder of images without class folders and arrays
      without labels are taken; the set's ``labels`` are then None.

    Raises ``ValueError`` or ``TypeError`` naming the file or argument; nothing is downloaded.
    """
    source = os.fspath(source)
    for name, value in (("image_size", image_size), ("n_channels", n_channels)):
        if value is not None and (source in _NAMED or Path(source).suffix in ARRAY_SUFFIXES):
            raise ValueError(
                f"{name} must go with a folder of images, which {source!r} is not, got {value!r}"
            )
    if labels is not None and Path(source).suffix not in ARRAY_SUFFIXES:
        raise ValueError(
            f"labels is {os.fspath(labels)!r}; expected with {', '.join(ARRAY_SUFFIXES)}, not with {source!r}"
        )
    if source in _NAMED:
        folder = Path(root if root is not None else os.environ.get("DSHC_DATA_ROOT") or "data")
        return _load_named(source, folder)
    path = Path(source)
    if path.suffix in ARRAY_SUFFIXES and not path.is_dir():
        data = load_arrays(path, labels=None if labels is None else Path(labels))
        if require_labels and data.labels is None:
            raise ValueError(
                f"{path}: has no labels; give them inside (.npz, .safetensors) or by labels=FILE"
            )
        return data
    images = {"image_size": image_size, "n_channels": n_channels, "skip_unreadable": skip_unreadable}
    if path.is_dir():
        if not require_labels and not any(p.is_dir() and not p.name.startswith(".") for p in path.iterdir()):
            return load_flat_images(path, **images)
        return load_folder(path, **images)
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        if require_labels:
            raise ValueError(
                f"{path}: one image without a label; expected: a folder with one sub-folder of images a class"
            )
        return load_flat_images(path, **images)
    if path.is_file():
        raise ValueError(
            f"{path}: a file of suffix {path.suffix!r}, which is not read; expected: arrays "
            f"({', '.join(ARRAY_SUFFIXES)}) and, to be encoded, images ({', '.join(IMAGE_SUFFIXES)})"
        )
    raise ValueError(
        f"source is {source!r}, which is no file or folder here; expected: {', '.join(_NAMED)}, "
        f"a folder of class folders, or a file {', '.join(ARRAY_SUFFIXES)}"
    )


def _load_named(name: str, root: Path) -> Dataset:
    if name == "digits":
        return load_digits()
    return load_idx(name, root) if name.endswith("mnist") else load_cifar(name, root)
