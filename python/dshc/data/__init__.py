"""Sets, labelled or not, and which of their items are queries, database, training and validation.

``load`` reads a named set, a folder of images, a list of images or a file of arrays; ``make_split`` cuts it by a
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
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, did_you_mean
from .cifar import load_cifar
from .dataset import Dataset
from .digits import load_digits
from .embeddings import SUFFIXES as ARRAY_SUFFIXES
from .embeddings import load_arrays
from .folder import is_flat, load_flat_images, load_folder, read_images
from .gather import ImageOptions
from .idx import load_idx
from .image_files import ImageFiles
from .image_fit import IMAGE_SUFFIXES, ImageFit, image_suffixes, printable
from .item_labels import LabelsError, check_kind, kind_of
from .lists import LIST_SUFFIXES, load_list
from .parquet import PARQUET_SUFFIXES, holds_photos, load_parquet
from .protocols import Split, describe_protocols, make_split, protocols
from .published import PUBLISHED, load_published
from .reading import Reading
from .scan import holds_images

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGE_SUFFIXES",
    "Dataset",
    "ImageFiles",
    "ImageFit",
    "LabelsError",
    "Reading",
    "Split",
    "available",
    "describe_protocols",
    "image_suffixes",
    "is_photos",
    "load",
    "make_split",
    "protocols",
    "read_images",
]

_ARRAY_SETS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "cifar100-coarse")
_NAMED = (*_ARRAY_SETS, *PUBLISHED)


def available() -> tuple[str, ...]:
    """The named sets that ``load`` knows; all but ``digits`` need their official files on disk."""
    return _NAMED


def load(
    source: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    interpolation: str = "bilinear",
    labels: str | os.PathLike[str] | None = None,
    n_channels: int | None = None,
    skip_unreadable: bool = False,
    require_labels: bool = True,
    label_kinds: Sequence[str] = ("ids", "multi-hot"),
    max_memory_mib: float = 1024,
    check_images: bool = True,
) -> Dataset:
    """Read a set.

    ``source`` is one of

    * a name of ``available()`` (a folder of that name is meant by ``./name``),
    * a folder with one sub-folder of images per class,
    * a list of images, ``.txt``, ``.csv`` or ``.tsv`` (``dshc.data.lists`` has the grammar),
    * a Parquet file of images, paths of images or embeddings (``dshc.data.parquet``),
    * a file of arrays, ``.npy``, ``.npz`` or ``.safetensors`` (``dshc.data.embeddings``).

    The arguments:

    * ``root``: where the official files, or the images, of a named set lie; else the variable ``DSHC_DATA_ROOT``,
      else ``./data``. For a list or Parquet file: the folder that its paths are relative to, else its own.
    * ``image_size``: side or ``(height, width)`` to which images in files are brought; 64 where not given.
    * ``interpolation``: how images in files are resized, ``"bilinear"`` or ``"bicubic"``.
    * ``labels``: a file of labels for an array file (``.npy``, or ``.txt`` with one class name per line), or the
      file or folder of label lists of a named set of photos.
    * ``n_channels``: 1 or 3 to have images in files as grey or RGB; otherwise grey where every file is grey.
    * ``skip_unreadable``: leave out images that cannot be read (of a list: that are missing, too), with a
      warning; otherwise the first one raises.
    * ``require_labels``: with False, items may come without labels (a single image, a folder in which images lie
      beside sub-folders or without any, lists, arrays); the set's ``labels`` are then None.
    * ``label_kinds``: the kinds of labels that are of use, of ``"ids"`` (one class per item), ``"multi-hot"`` (several)
      and ``"none"`` (as ``require_labels=False``). Others raise :class:`LabelsError`, before any image is decoded.
    * ``max_memory_mib``: images in files that take more than this once decoded are decoded when they are asked
      for (``Dataset.inputs`` is an :class:`ImageFiles` then).
    * ``check_images``: with False, the files of such images are not opened before; ``n_channels`` must be given.

    Raises ``ValueError`` or ``TypeError`` naming the file or argument; nothing is downloaded.
    """
    source = os.fspath(source)
    if not source:
        raise InputError("source must be a named set, a folder or a file, got ''")
    path = Path(source)
    suffix = path.suffix.lower()
    kinds = (*label_kinds, *(() if require_labels or "none" in label_kinds else ("none",)))
    options = ImageOptions(
        image_size, interpolation, n_channels, skip_unreadable, max_memory_mib, kinds, check_images
    )
    is_arrays = suffix in ARRAY_SUFFIXES and not path.is_dir()
    if source in _ARRAY_SETS or is_arrays:
        _check_no_images(source, options)
    if root is not None and source not in _NAMED and (is_arrays or path.is_dir() or suffix in IMAGE_SUFFIXES):
        raise InputError(
            f"root must go with a named set or a list of images, got {os.fspath(root)!r} with {printable(source)!r}"
        )
    if labels is not None and source not in PUBLISHED and suffix not in ARRAY_SUFFIXES:
        raise InputError(
            f"labels must go with {', '.join(ARRAY_SUFFIXES)} or one of {', '.join(PUBLISHED)}, "
            f"got {os.fspath(labels)!r} with {printable(source)!r}"
        )
    labels = None if labels is None else Path(labels)
    if source in PUBLISHED:
        return load_published(source, _images_root(source, root), labels, options)
    if source in _NAMED:
        folder = Path(root if root is not None else os.environ.get("DSHC_DATA_ROOT") or "data")
        data = _load_named(source, folder)
        check_kind(kind_of(data.labels), kinds, source)
        return data
    if is_arrays:
        data = load_arrays(path, labels=labels)
        how = "give them inside (.npz, .safetensors) or by labels=FILE"
        check_kind(kind_of(data.labels), kinds, printable(path), how)
        return data
    if path.is_dir():
        if "none" in kinds and is_flat(path):
            return load_flat_images(path, options)
        return load_folder(path, options)
    if not path.is_file():
        known = (
            f"{', '.join(_NAMED)}, a folder of class folders, a list ({', '.join(LIST_SUFFIXES)}, "
            f"{', '.join(PARQUET_SUFFIXES)}), or a file {', '.join(ARRAY_SUFFIXES)}"
        )
        raise InputError(
            f"source must be {known}, got {printable(source)!r}, which is no file or folder here"
            f"{did_you_mean(source, _NAMED)}"
        )
    base = None if root is None else Path(root)
    if suffix in LIST_SUFFIXES:
        return load_list(path, base, options)
    if suffix in PARQUET_SUFFIXES:
        return load_parquet(path, base, options)
    if suffix in IMAGE_SUFFIXES:
        if "none" not in kinds:
            raise InputError(
                f"{printable(path)}: must be a folder with one sub-folder of images per class, got one image without a "
                "label"
            )
        return load_flat_images(path, options)
    raise InputError(
        f"{printable(path)}: must hold arrays ({', '.join(ARRAY_SUFFIXES)}), a list "
        f"({', '.join((*LIST_SUFFIXES, *PARQUET_SUFFIXES))}) or, to be encoded, an image "
        f"({', '.join(IMAGE_SUFFIXES)}), got suffix {path.suffix!r}"
    )


def is_photos(source: str | os.PathLike[str]) -> bool:
    """Whether ``source`` means image files: a folder of images, an image file, a list or Parquet file of images.

    Named sets of lists of photos are some, other named sets and files of arrays none. Looks at names, and at a
    Parquet file's columns; raises nothing.
    """
    source = os.fspath(source)
    if not source or source in _ARRAY_SETS:
        return False
    if source in PUBLISHED:
        return True
    path = Path(source)
    try:
        if path.is_dir():
            return holds_images(path)
        suffix = path.suffix.lower()
        if not path.is_file():
            return False
        return suffix in IMAGE_SUFFIXES or suffix in LIST_SUFFIXES or holds_photos(path)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _check_no_images(source: str, options: ImageOptions) -> None:
    for name in ("image_size", "n_channels"):
        if (value := getattr(options, name)) is not None:
            raise InputError(
                f"{name} must go with images in files, which {printable(source)!r} does not hold, got {value!r}"
            )


def _images_root(name: str, root: str | os.PathLike[str] | None) -> Path | None:
    """The folder of a published set's images: as given, or of the set's name below ``DSHC_DATA_ROOT``."""
    if root is not None:
        return Path(root)
    below = Path(os.environ.get("DSHC_DATA_ROOT") or "data") / name
    return below if below.is_dir() else None


def _load_named(name: str, root: Path) -> Dataset:
    if name == "digits":
        return load_digits()
    return load_idx(name, root) if name.endswith("mnist") else load_cifar(name, root)
