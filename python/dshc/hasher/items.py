"""What a user hands to a hasher, brought to arrays: paths, pictures, arrays, tensors, loaders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data import IMAGE_SUFFIXES, read_images
from ..data.folder import fit_image, image_files
from ..errors import InputError

__all__ = ["item_batches"]


def item_batches(
    items: Any, *, kind: str, item_shape: tuple[int, ...], batch_size: int
) -> Iterator[np.ndarray]:
    """Items in batches: uint8 ``(b, h, w, c)`` or float32 ``(b, d)``, in the order given.

    Takes one item or many: an array or tensor ``(n, *item_shape)`` or ``item_shape``; for images also a path of a
    file or folder, a picture (PIL), or a sequence of paths and pictures, which are brought to the hasher's size; or
    an iterable of such batches (a ``DataLoader``, whose pairs (items, labels) count by their first). Files are
    decoded batch by batch. Raises :class:`InputError` for items of another shape or dtype.
    """
    if isinstance(items, (np.ndarray, Tensor)):
        array = _as_array(items, kind, item_shape)
        for start in range(0, len(array), batch_size):
            yield array[start : start + batch_size]
        return
    if isinstance(items, (str, os.PathLike, Image.Image)):
        items = _paths(Path(items)) if not isinstance(items, Image.Image) else [items]
    if isinstance(items, Sequence):
        if items and isinstance(items[0], (np.ndarray, Tensor, list, tuple, float)):
            yield from item_batches(
                np.asarray(items), kind=kind, item_shape=item_shape, batch_size=batch_size
            )
            return
        _check_images(kind)
        for start in range(0, len(items), batch_size):
            yield _pictures(items[start : start + batch_size], item_shape)
        return
    if isinstance(items, Iterable):
        for batch in items:
            part = batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 2 else batch
            yield from item_batches(part, kind=kind, item_shape=item_shape, batch_size=batch_size)
        return
    raise InputError(
        f"items must be a path, a picture, an array, a tensor or a sequence of these, got {type(items).__name__}"
    )


def _as_array(items: np.ndarray | Tensor, kind: str, item_shape: tuple[int, ...]) -> np.ndarray:
    array = items.detach().cpu().numpy() if isinstance(items, Tensor) else items
    if array.shape == item_shape:
        array = array[None]
    if array.shape[1:] != item_shape:
        raise InputError(f"items must have shape (n, {', '.join(map(str, item_shape))}), got {array.shape}")
    if kind == "images":
        if array.dtype != np.uint8:
            raise InputError(f"images must be uint8 (pixels 0 to 255), got {array.dtype}")
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"features must be floating point, got {array.dtype}")
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise InputError("features must be finite, got NaN or infinity")
    return array


def _paths(path: Path) -> Sequence[Path]:
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise InputError(f"{path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return found
    return [path]


def _check_images(kind: str) -> None:
    if kind != "images":
        raise InputError("this hasher takes features: items must be an array (n, d), got paths or pictures")


def _pictures(items: Sequence[Any], item_shape: tuple[int, ...]) -> np.ndarray:
    height, width, n_channels = item_shape
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        return read_images(items, image_size=(height, width), n_channels=n_channels)
    images = np.empty((len(items), *item_shape), np.uint8)
    for row, item in enumerate(items):
        if isinstance(item, Image.Image):
            images[row] = fit_image(item, height, width, n_channels)[0]
        elif isinstance(item, (str, os.PathLike)):
            images[row] = read_images([item], image_size=(height, width), n_channels=n_channels)[0]
        else:
            raise InputError(f"items must be paths or pictures, got {type(item).__name__}")
    return images
