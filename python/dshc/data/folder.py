"""A folder of class folders, and single image files, decoded into one uint8 array."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .dataset import Dataset

__all__ = ["IMAGE_SUFFIXES", "fit_image", "image_files", "load_flat_images", "load_folder", "read_images"]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEFAULT_SIZE = 64

# What people call the parts of a set on disk; the official test part holds the queries.
_TEST_NAMES = ("test", "val")
_PART_NAMES = {"train", "test", "val", "valid", "validation"}


def load_folder(
    folder: Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    n_channels: int | None = None,
    skip_unreadable: bool = False,
) -> Dataset:
    """A folder with one sub-folder a class as one set; classes bear the folders' names, in sorted order.

    Images (suffixes ``IMAGE_SUFFIXES``; other and hidden files are passed over) are taken in sorted order, at
    any depth below their class folder, and brought to ``image_size`` as :func:`read_images` says. Where the
    folder holds exactly ``train`` and ``test`` (or ``train`` and ``val``), each with the same class folders,
    the second is the official test part. ``ids`` are the paths below ``folder``.

    ``skip_unreadable``: leave out images that cannot be read, with a warning that counts them; their paths
    are in ``skipped``. Otherwise the first of them raises ``ValueError`` naming the file, as do a class
    without images and unequal classes in the two parts.
    """
    parts = _find_parts(folder)
    classes = _sub_folders(parts[0])
    for part in parts[1:]:
        if unequal := {c.name for c in classes} ^ {c.name for c in _sub_folders(part)}:
            raise ValueError(
                f"{folder}: the classes {_some(unequal)} are not in both {parts[0].name} and {part.name}"
            )
    paths: list[Path] = []
    labels: list[int] = []
    in_test: list[bool] = []
    for number, part in enumerate(parts):
        for label, name in enumerate(c.name for c in classes):
            found = image_files(part / name)
            if not found:
                raise ValueError(
                    f"{part / name}: a class folder without images ({', '.join(IMAGE_SUFFIXES)})"
                )
            paths += found
            labels += [label] * len(found)
            in_test += [number > 0] * len(found)
    images, keep = _decode(paths, image_size, n_channels, skip_unreadable)
    skipped = tuple(_name(path, folder) for path, kept in zip(paths, keep, strict=True) if not kept)
    if skipped:
        warnings.warn(f"{folder}: {len(skipped)} unreadable images left out: {_some(skipped)}", stacklevel=3)
    label_array, test_mask = np.array(labels, np.int64)[keep], np.array(in_test)[keep]
    for number, part in enumerate(parts):
        present = np.bincount(label_array[test_mask == (number > 0)], minlength=len(classes))
        if not present.all():
            raise ValueError(
                f"{part / classes[int(present.argmin())].name}: a class folder with unreadable images only"
            )
    return Dataset(
        folder.resolve().name,
        "images",
        images,
        label_array,
        tuple(c.name for c in classes),
        test_mask if len(parts) == 2 else None,
        tuple(_name(path, folder) for path, kept in zip(paths, keep, strict=True) if kept),
        skipped,
    )


def load_flat_images(
    path: Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    n_channels: int | None = None,
    skip_unreadable: bool = False,
) -> Dataset:
    """One image file, or all images below a folder in sorted order, as a set without labels.

    Arguments and errors as in :func:`load_folder`; ``ids`` are the file names (the paths below the folder).
    """
    paths = [path] if path.is_file() else image_files(path)
    if not paths:
        raise ValueError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    base = path.parent if path.is_file() else path
    images, keep = _decode(paths, image_size, n_channels, skip_unreadable)
    names = [_name(p, base) for p in paths]
    skipped = tuple(n for n, kept in zip(names, keep, strict=True) if not kept)
    if skipped:
        warnings.warn(f"{path}: {len(skipped)} unreadable images left out: {_some(skipped)}", stacklevel=3)
    ids = tuple(n for n, kept in zip(names, keep, strict=True) if kept)
    return Dataset(path.resolve().stem, "images", images, None, (), None, ids, skipped)


def read_images(
    paths: Iterable[str | os.PathLike[str]],
    *,
    image_size: int | tuple[int, int],
    n_channels: int = 3,
) -> np.ndarray:
    """Decode image files to uint8 ``(n, h, w, n_channels)`` of one size.

    Each image is turned upright (EXIF), the largest centred part of the wanted proportions is kept and
    resized (bilinear, averaging when it shrinks). ``image_size`` is the side of a square or ``(h, w)``;
    ``n_channels`` 1 gives grey (ITU-R 601 luma), 3 RGB. 16-bit grey keeps its upper byte, transparency is
    dropped.

    Raises ``ValueError`` naming the first file that cannot be read.
    """
    images, _ = _decode([Path(path) for path in paths], image_size, n_channels, skip_unreadable=False)
    return images


def _decode(
    paths: Sequence[Path],
    image_size: int | tuple[int, int] | None,
    n_channels: int | None,
    skip_unreadable: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The images that could be read, uint8 ``(n_kept, h, w, c)``, and which they are, bool ``(n,)``."""
    height, width = _size(image_size)
    if n_channels not in (None, 1, 3):
        raise ValueError(
            f"n_channels is {n_channels!r}, expected 1 (grey), 3 (RGB) and None (as the files are)"
        )
    # Grey files as RGB have three equal channels, so that one array serves until all modes are known.
    images = np.empty((len(paths), height, width, n_channels or 3), np.uint8)
    keep = np.ones(len(paths), bool)
    grey = np.ones(len(paths), bool)

    def work(i: int) -> None:
        try:
            images[i], grey[i] = _read_one(paths[i], height, width, images.shape[3])
        except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
            if not skip_unreadable:
                raise ValueError(
                    f"{paths[i]}: not a readable image ({error or type(error).__name__})"
                ) from None
            keep[i] = False

    # Pillow decodes and resizes with the GIL released.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(work, range(len(paths)))
        try:
            for _ in results:
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise
    if not keep.any() and len(paths):
        raise ValueError(f"{paths[0].parent}: none of the {len(paths)} images can be read")
    if not keep.all():
        images = images[keep]
    if n_channels is None and grey[keep].all():
        images = np.ascontiguousarray(images[..., :1])
    return images, keep


def _read_one(path: Path, height: int, width: int, n_channels: int) -> tuple[np.ndarray, bool]:
    """One image, uint8 ``(height, width, n_channels)``, and whether the file is grey."""
    with Image.open(path) as image:
        # A JPEG can be decoded at a fraction of its size; twice the target leaves the resize something to
        # average.
        image.draft(None, (2 * max(height, width),) * 2)
        return fit_image(image, height, width, n_channels)


def fit_image(image: Image.Image, height: int, width: int, n_channels: int) -> tuple[np.ndarray, bool]:
    """An opened image as :func:`read_images` brings it to size, and whether it is grey."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    grey = upright.mode in ("1", "L", "LA")
    pixels = upright.convert("L" if n_channels == 1 else "RGB")
    fitted = ImageOps.fit(pixels, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(height, width, n_channels), grey


def _size(image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    given = DEFAULT_SIZE if image_size is None else image_size
    sides = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 4096 for side in sides):
        raise ValueError(f"image_size is {image_size!r}, expected a side from 1 to 4096 or (height, width)")
    return sides


def _find_parts(folder: Path) -> list[Path]:
    """The folders that hold class folders: ``[folder]``, or its train and test part."""
    names = {sub.name for sub in _sub_folders(folder)}
    for test in _TEST_NAMES:
        if names == {"train", test}:
            return [folder / "train", folder / test]
    if "train" in names and names <= _PART_NAMES:
        raise ValueError(
            f"{folder}: the parts {', '.join(sorted(names))}; expected: train and test, or train and val "
            "(the second holds the queries; validation images are cut from train)"
        )
    if not names:
        raise ValueError(
            f"{folder}: has no class folders; expected: a folder with one sub-folder of images a class"
        )
    return [folder]


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name
    )


def image_files(folder: Path) -> list[Path]:
    """Image files at any depth, hidden ones aside, in the order of their path below ``folder``."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    visible = (p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    return sorted(visible, key=lambda p: p.relative_to(folder).parts)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
