"""A folder of class folders, a folder of images, single image files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .gather import ImageOptions, gather, item_names, warn_of_unreadable
from .image_fit import IMAGE_SUFFIXES, printable
from .image_stores import FileStore
from .reading import VALIDATION_NAMES, read_for_training
from .scan import Scan, image_files, some

__all__ = ["IMAGE_SUFFIXES", "image_files", "is_flat", "load_flat_images", "load_folder", "read_images"]

# What people call the parts of a set on disk, in any case; the official test part holds the queries.
_PART_NAMES = {"train", "test", *VALIDATION_NAMES}
_MOST_PARTS = 5  # folders that may be parts under other names


def load_folder(folder: Path, options: ImageOptions) -> Dataset:
    """A folder with one sub-folder per class as one set; classes bear the folders' names, in sorted order.

    Images (suffixes ``IMAGE_SUFFIXES``; hidden files are passed over, others are counted in ``Dataset.reading``)
    come in sorted order, at any depth below their class folder, links followed. Where the folder holds exactly
    ``train`` and ``test`` (or ``train`` and ``val``), in any case, each with the same class folders, the second
    is the official test part; ``val`` beside both is read for training, and a note says so. ``ids`` are the paths
    below ``folder``, bytes that are no UTF-8 escaped.

    ``options.skip_unreadable``: leave out images that cannot be read, with a warning that counts them; their ids
    are in ``skipped``. Otherwise the first of them raises ``ValueError`` naming the file, as do a class without
    images and unequal classes in two parts.
    """
    scan = Scan()
    base = os.fspath(folder)
    where = printable(base)
    options.check_kind("ids", where)
    parts, loose = _find_parts(base, scan)
    classes = list(parts[0].classes)
    for part in parts[1:]:
        if unequal := set(classes) ^ set(part.classes):
            raise InputError(
                f"{where}: the classes {some(unequal)} are not in both {parts[0].name} and {part.name}"
            )
    paths: list[str] = []
    labels: list[int] = []
    in_test: list[bool] = []
    for part in parts:
        for label, name in enumerate(classes):
            found = _class_images(part.classes[name], scan)
            paths += found
            labels += [label] * len(found)
            in_test += [part.is_test] * len(found)
    gathered = gather(FileStore(paths), options, where=where)
    keep = gathered.keep
    names = item_names([_below(path, base) for path in paths])
    skipped = tuple(name for name, kept in zip(names, keep, strict=True) if not kept)
    warn_of_unreadable(where, skipped)
    label_array, test_mask = np.array(labels, np.int64)[keep], np.array(in_test)[keep]
    for part in parts:
        present = np.bincount(label_array[test_mask == part.is_test], minlength=len(classes))
        if not present.all():
            path = printable(part.classes[classes[int(present.argmin())]])
            raise InputError(f"{path}: a class folder with unreadable images only")
    return Dataset(
        printable(folder.resolve().name),
        "images",
        gathered.inputs,
        label_array,
        item_names(classes),
        test_mask if test_mask.any() else None,
        tuple(name for name, kept in zip(names, keep, strict=True) if kept),
        skipped,
        replace(
            scan.reading(len(label_array), loose=loose, unreadable=len(skipped)),
            notes=tuple(read_for_training(part.name) for part in parts[1:] if not part.is_test),
        ),
    )


def load_flat_images(path: Path, options: ImageOptions) -> Dataset:
    """One image file, or all images below a folder in sorted order, as a set without labels.

    Options and errors as in :func:`load_folder`; ``ids`` are the file names (the paths below the folder). A note says
    so where sub-folders might have been taken for classes.
    """
    scan = Scan()
    notes: tuple[str, ...] = ()
    if path.is_file():
        base, paths = os.fspath(path.parent), [os.fspath(path)]
    else:
        base = os.fspath(path)
        paths = scan.walk(base)
        if Scan().entries(base)[0]:
            notes = ("read without labels, for images lie in the folder itself",)
    where = printable(path)
    if not paths:
        raise InputError(f"{where}: must hold images{_what_is_there(scan)}")
    gathered = gather(FileStore(paths), options, where=where)
    keep = gathered.keep
    names = item_names([path.name] if path.is_file() else [_below(p, base) for p in paths])
    skipped = tuple(name for name, kept in zip(names, keep, strict=True) if not kept)
    warn_of_unreadable(where, skipped)
    return Dataset(
        printable(path.resolve().stem),
        "images",
        gathered.inputs,
        None,
        (),
        ids=tuple(name for name, kept in zip(names, keep, strict=True) if kept),
        skipped=skipped,
        reading=replace(scan.reading(int(keep.sum()), unreadable=len(skipped)), notes=notes),
    )


def is_flat(folder: Path) -> bool:
    """Whether a folder is one of images rather than of class folders: images lie in it, or it has no sub-folder."""
    scan = Scan()
    folders, files = scan.entries(os.fspath(folder))
    return bool(scan.images(files)) or not (folders or scan.closed)


def read_images(
    paths: Iterable[str | os.PathLike[str]],
    *,
    image_size: int | tuple[int, int],
    n_channels: int = 3,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Decode image files to uint8 ``(n, h, w, n_channels)`` of one size.

    ``image_size`` is the side of a square or ``(h, w)``; ``n_channels`` 1 gives grey (ITU-R 601 luma), 3 RGB;
    ``interpolation`` is ``"bilinear"`` or ``"bicubic"``. :meth:`ImageFit.apply` says what happens to an image.

    Raises ``ValueError`` naming the first file that cannot be read.
    """
    options = ImageOptions(image_size, interpolation, n_channels, max_memory_mib=float("inf"))
    return gather(FileStore(paths), options, where="paths", quiet=True).inputs


class _Part:
    """A folder of class folders: its name, whether it is the test part, and the paths of the classes by name."""

    def __init__(self, path: str, scan: Scan, *, is_test: bool = False) -> None:
        self.name, self.is_test = os.path.basename(path), is_test
        folders, files = scan.entries(path)
        self.classes = {entry.name: entry.path for entry in folders}
        self.n_images = len(scan.images(files))


def _find_parts(folder: str, scan: Scan) -> tuple[list[_Part], int]:
    """What holds class folders, the folder itself or its parts (test last); and how many images lie beside."""
    where = printable(folder)
    closed = scan.closed
    root = _Part(folder, scan)
    if scan.closed > closed:
        raise InputError(f"{where}: the folder may not be opened")
    names = {name.lower() for name in root.classes}
    if len(names) < len(root.classes) and names <= _PART_NAMES:
        raise InputError(f"{where}: must hold one folder for each part, got {some(set(root.classes))}")
    by_part = {name.lower(): path for name, path in root.classes.items()}
    if "train" in names and names <= _PART_NAMES or _are_parts(by_part):
        validation = [name for name in names if name in VALIDATION_NAMES]
        if len(names) == 1 or len(validation) > 1 or "train" not in names or not names <= _PART_NAMES:
            raise InputError(
                f"{where}: the parts must be train and test (the queries), perhaps with one of "
                f"{', '.join(VALIDATION_NAMES)} (read for training, or in the place of test), got "
                f"{', '.join(sorted(root.classes))}"
            )
        test = "test" if "test" in names else validation[0]
        parts = []
        for name in sorted(names, key=lambda name: (name == test, name != "train")):
            part = _Part(by_part[name], scan, is_test=name == test)
            if not part.classes:
                raise InputError(f"{printable(by_part[name])}: must hold one sub-folder of images per class")
            parts.append(part)
        return parts, root.n_images + sum(part.n_images for part in parts)
    if not names:
        beside = (
            f"; {root.n_images:,} images lie in it, without a class (--method itq needs none)"
            if root.n_images
            else ""
        )
        raise InputError(f"{where}: must hold one sub-folder of images per class, got no such folder{beside}")
    return [root], root.n_images


def _are_parts(folders: dict[str, str]) -> bool:
    """Whether folders of other names hold the same class folders as one called ``train`` or ``test``."""
    if len(folders) > _MOST_PARTS or not folders.keys() & {"train", "test"}:
        return False
    inside = [{entry.name for entry in Scan().entries(path)[0]} for path in folders.values()]
    return len(inside) > 1 and all(inside) and len(set.intersection(*inside)) > 0


def _class_images(path: str, scan: Scan) -> list[str]:
    here = Scan()
    found = here.walk(path)
    if not found:
        closed = here.closed and not here.skipped
        why = ": the folder may not be opened" if closed else f" without images{_what_is_there(here)}"
        raise InputError(f"{printable(path)}: a class folder{why}")
    scan.add(here)
    return found


def _what_is_there(scan: Scan) -> str:
    """What a folder without images holds instead."""
    read = f" ({', '.join(IMAGE_SUFFIXES)})"
    return f"{read}, only {scan.reading(0).line().split('skipped: ', 1)[1]}" if scan.skipped else read


def _below(path: str, base: str) -> str:
    name = path[len(os.path.join(base, "")) :]
    return name if os.sep == "/" else name.replace(os.sep, "/")
