"""What a user hands to a hasher, brought to arrays: paths, pictures, arrays, tensors, loaders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data import IMAGE_SUFFIXES, ImageFiles, ImageFit
from ..data.image_fit import printable
from ..data.scan import image_files
from ..errors import InputError

__all__ = ["in_files", "item_batches"]

_NUMBERS = (np.ndarray, Tensor, list, tuple, int, float)


def item_batches(
    items: Any,
    *,
    kind: str,
    item_shape: tuple[int, ...],
    batch_size: int,
    fit: ImageFit | None = None,
) -> Iterator[np.ndarray]:
    """Items in batches: uint8 ``(b, h, w, c)`` or float32 ``(b, d)``, in the order given.

    ``items``: one or many; an array or tensor ``(n, *item_shape)`` or ``item_shape``. For images also a path of a
    file or folder, a picture (PIL), :class:`ImageFiles`, or a sequence of paths and pictures, which are brought to
    the hasher's size. Or an iterable of such batches (a ``DataLoader``, whose pairs (items, labels) count by their
    first). Files are decoded batch by batch, by threads. ``fit``: how files and pictures are brought to size; None:
    to ``item_shape``, bilinear. Raises :class:`InputError` for items of another shape or dtype, when they are
    reached.
    """
    if kind == "images":
        fit = fit or ImageFit(*item_shape)
        if fit.shape != item_shape:
            raise InputError(f"fit must be to the shape of an item, {item_shape}, got {fit.shape}")
    if isinstance(items, ImageFiles):
        _check_images(kind)
        if items.shape[1:] != item_shape:
            raise InputError(
                f"items must have shape (n, {', '.join(map(str, item_shape))}), got {items.shape}"
            )
        for start in range(0, len(items), batch_size):
            yield items[start : start + batch_size]
    elif isinstance(items, (np.ndarray, Tensor)):
        array = _as_array(items, kind, item_shape)
        for start in range(0, len(array), batch_size):
            yield array[start : start + batch_size]
    elif isinstance(items, (str, os.PathLike)):
        _check_images(kind)
        yield from _in_batches(_paths(Path(items)), fit, batch_size)
    elif isinstance(items, Image.Image):
        _check_images(kind)
        yield _pictures([items], fit)
    elif isinstance(items, Iterable) and not isinstance(items, (bytes, Mapping)):
        if isinstance(items, Sequence) and not _holds_batches(items, item_shape):
            yield from _one_by_one(items, kind, item_shape, batch_size, fit)
            return
        for batch in items:
            part = batch[0] if _is_pair(batch, item_shape) else batch
            yield from item_batches(part, kind=kind, item_shape=item_shape, batch_size=batch_size, fit=fit)
    else:
        raise InputError(
            "items must be a path, a picture, an array, a tensor or a sequence of these, got "
            f"{type(items).__name__}"
        )


def in_files(items: Any) -> bool:
    """Whether items are decoded on the way, so that the next ones are worth having ready."""
    first = items[0] if isinstance(items, (list, tuple)) and items else items
    return isinstance(first, (str, os.PathLike, ImageFiles))


def _holds_batches(items: Sequence[Any], item_shape: tuple[int, ...]) -> bool:
    """Whether these are arrays of several items each, perhaps with labels."""
    if not len(items):
        return False
    first = items[0]
    return _is_pair(first, item_shape) or (isinstance(first, _NUMBERS) and _depth(first) > len(item_shape))


def _depth(items: Any) -> int:
    """The number of dimensions, by the first of each, for rows need not be equally long."""
    if isinstance(items, (list, tuple)):
        return 1 + (_depth(items[0]) if items else 0)
    return items.ndim if isinstance(items, (np.ndarray, Tensor)) else 0


def _one_by_one(
    items: Sequence[Any], kind: str, item_shape: tuple[int, ...], batch_size: int, fit: ImageFit | None
) -> Iterator[np.ndarray]:
    if len(items) and isinstance(items[0], _NUMBERS):
        yield from item_batches(
            _stacked(items, kind), kind=kind, item_shape=item_shape, batch_size=batch_size
        )
    elif len(items):
        _check_images(kind)
        yield from _in_batches(items, fit, batch_size)


def _is_pair(batch: Any, item_shape: tuple[int, ...]) -> bool:
    """Whether this is a batch of items with its labels, and not a batch of two items."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        return False
    first, labels = batch
    if isinstance(first, (np.ndarray, Tensor)) or (
        isinstance(first, (tuple, list)) and len(first) and isinstance(first[0], _NUMBERS)
    ):
        return _depth(first) > len(item_shape)
    return isinstance(first, (tuple, list)) and isinstance(labels, (np.ndarray, Tensor, tuple, list))


def _stacked(items: Sequence[Any], kind: str) -> np.ndarray:
    """Items one by one as one array; features may be written as whole numbers."""
    try:
        stacked = np.stack([_numbers(item) for item in items])
    except ValueError:
        raise InputError("items of a sequence must all have one shape, got several") from None
    written = kind == "features" and all(isinstance(item, (list, tuple, int, float)) for item in items)
    return stacked.astype(np.float32) if written and stacked.dtype.kind in "iu" else stacked


def _numbers(items: Any) -> np.ndarray:
    if isinstance(items, np.ma.MaskedArray) and np.ma.is_masked(items):
        raise InputError("items must have no masked entries, got a masked array with some")
    if not isinstance(items, Tensor):
        return np.asarray(items)
    items = items.detach().cpu()
    return (items.float() if items.dtype == torch.bfloat16 else items).numpy()  # numpy has no bfloat16


def _as_array(items: np.ndarray | Tensor, kind: str, item_shape: tuple[int, ...]) -> np.ndarray:
    items = _numbers(items)
    array = items[None] if items.shape == item_shape else items
    if array.shape[1:] != item_shape or not array.ndim:
        raise InputError(f"items must have shape (n, {', '.join(map(str, item_shape))}), got {array.shape}")
    if kind == "images":
        if array.dtype != np.uint8:
            raise InputError(f"images must be uint8 (pixels 0 to 255), got {array.dtype}")
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"features must be floating point, got {array.dtype}")
    with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise InputError("features must be finite, got NaN or infinity")
    return array


def _paths(path: Path) -> Sequence[Path]:
    if path.is_dir():
        found = image_files(path)
        if not found:
            raise InputError(f"{printable(path)}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return found
    return [path]


def _check_images(kind: str) -> None:
    if kind != "images":
        raise InputError("items must be an array (n, d) of features, got paths or pictures")


def _in_batches(items: Sequence[Any], fit: ImageFit, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(items), batch_size):
        yield _pictures(items[start : start + batch_size], fit)


def _pictures(items: Sequence[Any], fit: ImageFit) -> np.ndarray:
    """Files and pictures as uint8 ``(n, h, w, c)``."""
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        return ImageFiles(items, fit)[:]
    images = np.empty((len(items), *fit.shape), np.uint8)
    in_files = []
    for row, item in enumerate(items):
        if isinstance(item, (str, os.PathLike)):
            in_files.append(row)
        elif isinstance(item, Image.Image):
            try:
                images[row] = fit.apply(item)
            except (ValueError, OSError) as error:
                raise InputError(f"item {row} must be a picture that can be read: {error}") from None
        else:
            raise InputError(f"items must be paths or pictures, got {type(item).__name__}")
    images[in_files] = ImageFiles([items[row] for row in in_files], fit)[:]
    return images
