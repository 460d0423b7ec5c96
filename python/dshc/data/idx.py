"""MNIST and Fashion-MNIST from their official idx files, raw or gzipped.

An idx file is two zero bytes, a type byte (8: unsigned byte), the number of dimensions, the dimensions as
big-endian 32-bit integers, then the values. The length is checked against the header, so a cut download never
passes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from .dataset import Dataset

__all__ = ["load_idx", "read_idx"]

# Both sets use the same file names, so a folder that says which set it is comes before the root itself.
_SUBFOLDERS = {
    "mnist": ("mnist", "MNIST/raw", ""),
    "fashion-mnist": ("fashion-mnist", "FashionMNIST/raw", ""),
}
_CLASS_NAMES = {
    "mnist": tuple(str(digit) for digit in range(10)),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_idx(name: str, root: Path) -> Dataset:
    """``"mnist"`` or ``"fashion-mnist"`` as one set: the training images, then the test images.

    ``root`` is the folder that holds the four official files (``train-images-idx3-ubyte`` and so on, raw or
    ``.gz``), or one with a sub-folder of the usual name. Images uint8 ``(70000, 28, 28, 1)``. Sources: LeCun,
    Cortes, Burges, MNIST; Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv 1708.07747. Raises ``ValueError``
    naming the file that is missing or damaged.
    """
    paths = _find_files(root, name)
    parts = []
    for images_path, labels_path in (paths[:2], paths[2:]):
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if len(images) != len(labels):
            raise ValueError(
                f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}"
            )
        if labels.max(initial=0) > 9:
            raise ValueError(f"{labels_path}: labels must be 0 to 9, got {labels.max()}")
        parts.append((images, labels))
    (train, train_labels), (test, test_labels) = parts
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"{paths[2]}: images of {test.shape[1:]} pixels, those of {paths[0].name} are {train.shape[1:]}"
        )
    labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
    test_mask = np.arange(len(labels)) >= len(train_labels)
    return Dataset(
        name, "images", np.concatenate([train, test])[..., None], labels, _CLASS_NAMES[name], test_mask
    )


def read_idx(path: Path, n_dimensions: int) -> np.ndarray:
    """The uint8 array in an idx file (gzipped where the name ends in ``.gz``) of that many dimensions.

    Raises ``ValueError`` naming the file where it cannot be read, is of another type or not of the length it
    announces.
    """
    header_size = 4 + 4 * n_dimensions
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(header_size)
            if len(header) < header_size:
                raise ValueError(
                    f"{path}: cut short, {len(header)} bytes where the header alone has {header_size}"
                )
            if header[:4] != bytes((0, 0, 8, n_dimensions)):
                raise ValueError(
                    f"{path}: no idx file of {n_dimensions}-dimensional unsigned bytes "
                    f"(must start with 0x000008{n_dimensions:02x}, got 0x{header[:4].hex()})"
                )
            shape = struct.unpack(f">{n_dimensions}I", header[4:])
            size = math.prod(shape)
            # One byte more than announced shows a file that is too long without reading all of it.
            data = file.read(size + 1) if size < 2**40 else b""
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: missing, cut short or damaged ({error})") from None
    if len(data) != size:
        found = f"only {len(data)}" if len(data) < size else "more"
        raise ValueError(f"{path}: the header announces {size} values {shape}, the file holds {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _find_files(root: Path, name: str) -> list[Path]:
    """The four files in the first folder that holds any; raw before gzipped."""
    for sub in _SUBFOLDERS[name]:
        folder = root / sub
        found = [
            next((p for p in (folder / file, folder / f"{file}.gz") if p.is_file()), None) for file in _FILES
        ]
        if all(found):
            return [path for path in found if path is not None]
        if any(found):
            missing = [file for file, path in zip(_FILES, found, strict=True) if path is None]
            raise ValueError(f"{folder}: the official files {', '.join(missing)} (or .gz) are missing")
    raise ValueError(
        f"{root}: none of the official files of {name} ({', '.join(_FILES)}, raw or .gz) here or in "
        f"{', '.join(sub for sub in _SUBFOLDERS[name] if sub)} (root= says where to look)"
    )
