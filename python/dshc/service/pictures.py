"""Small pictures of items: from a folder to which their ids are relative paths, or from a set in memory."""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image

from ..data.image_fit import IMAGE_SUFFIXES, ImageFit, decode, known_formats
from ..errors import InputError

__all__ = ["FORMATS", "SIDE", "ArrayPictures", "FolderPictures", "Picture", "Pictures", "picture_of"]

SIDE = 192
"""Longest side, in pixels: twice what the page shows, for dense screens."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "HEIF")
"""Formats that are decoded; others of Pillow call programs, or are of no use."""
_KEPT = 2048  # pictures of some 8 KB each
_PHOTO = 64  # a colour picture with a longer side is stored as JPEG


class Picture(NamedTuple):
    """A file of an image, and its media type."""

    content: bytes
    media_type: str


class Pictures(Protocol):
    """Raises ``LookupError`` for an item without a picture; called from several threads."""

    def picture(self, id: str) -> Picture: ...


class FolderPictures:
    """Those of a folder whose files are named by ids. Nothing outside of it is ever opened.

    Raises :class:`InputError` for what is no folder.
    """

    def __init__(self, folder: str | os.PathLike[str], max_pixels: int) -> None:
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path}: must be a folder of images, it is none")
        self._root, self._max_pixels = path.resolve(), max_pixels
        self._made = functools.lru_cache(_KEPT)(self._picture)

    def picture(self, id: str) -> Picture:
        with self._open(id) as file:
            found = os.fstat(file.fileno())
            return self._made(id, (found.st_ino, found.st_mtime_ns, found.st_size))

    def _picture(self, id: str, _state: tuple[int, int, int]) -> Picture:
        with self._open(id) as file:
            content = file.read()
        try:
            with Image.open(io.BytesIO(content), formats=known_formats(FORMATS)) as image:
                side = min(SIDE, *image.size)
            # The part of the middle, as hashers see it.
            pixels, grey = decode(
                io.BytesIO(content), ImageFit(side, side), id, most_pixels=self._max_pixels, formats=FORMATS
            )
        except Exception:  # on damaged bytes Pillow's decoders raise nearly anything
            raise LookupError(id) from None
        return picture_of(pixels[..., :1] if grey else pixels)

    def _open(self, id: str) -> BinaryIO:
        """The file of an item, opened; ``LookupError`` for one outside of the folder, by links too, or that is none."""
        if not id or "\0" in id or os.path.isabs(id) or Path(id).suffix.lower() not in IMAGE_SUFFIXES:
            raise LookupError(id)
        try:
            path = (self._root / id).resolve(strict=True)
            if not path.is_relative_to(self._root):
                raise LookupError(id)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, RuntimeError, ValueError):
            raise LookupError(id) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise LookupError(id)
        return os.fdopen(descriptor, "rb")


class ArrayPictures:
    """Those of a set: ``images[row]`` uint8 ``(h, w, 1 or 3)``; ``rows`` by the ids of items."""

    def __init__(self, images: Any, rows: Mapping[str, int]) -> None:
        self._images, self._rows = images, rows
        self.picture = functools.lru_cache(_KEPT)(self._picture)

    def _picture(self, id: str) -> Picture:
        try:
            return picture_of(np.asarray(self._images[self._rows[id]]))
        except (KeyError, OSError, ValueError):
            raise LookupError(id) from None


def picture_of(image: np.ndarray) -> Picture:
    """An image, uint8 ``(h, w, 1 or 3)``, with a longer side of 192 pixels at most: photos as JPEG, others as PNG."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    is_photo = image.shape[-1] == 3 and max(picture.size) > _PHOTO
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if is_photo:
        picture.save(buffer, format="JPEG", quality=85)
        return Picture(buffer.getvalue(), "image/jpeg")
    picture.save(buffer, format="PNG")
    return Picture(buffer.getvalue(), "image/png")
