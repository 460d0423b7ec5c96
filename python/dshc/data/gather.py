"""From a list of image files to the inputs of a set: decoded at once, or when they are asked for."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np

from ..errors import InputError, one_of
from .image_files import ImageFiles, in_threads
from .image_fit import ImageFit, decode, printable
from .image_stores import FileStore, PackedStore
from .item_labels import LABEL_KINDS, check_kind
from .scan import some

__all__ = [
    "DEFAULT_SIZE",
    "Gathered",
    "ImageOptions",
    "gather",
    "gather_batches",
    "item_names",
    "warn_of_unreadable",
]

DEFAULT_SIZE = 64
_ADVICE = "; skip_unreadable leaves such files out"


@dataclass(frozen=True)
class ImageOptions:
    """How images of a folder or list are read; the arguments of :func:`dshc.data.load` of the same names."""

    image_size: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    n_channels: int | None = None
    skip_unreadable: bool = False
    max_memory_mib: float = 1024
    label_kinds: tuple[str, ...] = LABEL_KINDS
    check_images: bool = True

    def __post_init__(self) -> None:
        if self.n_channels not in (None, 1, 3):
            raise InputError(
                f"n_channels must be 1 (grey), 3 (RGB) or None (as the files are), got {self.n_channels!r}"
            )
        limit = self.max_memory_mib
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0:
            raise InputError(f"max_memory_mib must be a number of MiB from 0 on, got {limit!r}")
        for kind in self.label_kinds:
            if kind not in LABEL_KINDS:
                raise one_of("label_kinds", kind, LABEL_KINDS)
        if not self.check_images and self.n_channels is None:
            raise InputError("n_channels must be 1 or 3 where check_images is False, got None")
        self.fit(3)

    def check_kind(self, kind: str, where: str) -> None:
        """Raise ``ValueError`` unless labels of this kind were asked for; before an image is opened."""
        check_kind(kind, self.label_kinds, where)

    def fits(self, n: int) -> bool:
        """Whether so many images take at most ``max_memory_mib`` once decoded."""
        fit = self.fit(self.n_channels or 3)
        return n * fit.height * fit.width * fit.n_channels <= self.max_memory_mib * 2**20

    def fit(self, n_channels: int) -> ImageFit:
        """The fit to that many channels."""
        given = DEFAULT_SIZE if self.image_size is None else self.image_size
        sides = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
        if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 4096 for side in sides):
            raise InputError(
                f"image_size must be a side from 1 to 4096 or (height, width), got {self.image_size!r}"
            )
        return ImageFit(*sides, n_channels, self.interpolation)


@dataclass(frozen=True)
class Gathered:
    """``inputs`` of the images that could be read, and which these are: ``keep`` bool ``(n,)``."""

    inputs: np.ndarray | ImageFiles
    keep: np.ndarray


def gather(
    store: FileStore | PackedStore, options: ImageOptions, *, where: str, quiet: bool = False
) -> Gathered:
    """Read images: into one array where they fit into ``max_memory_mib`` decoded, else as :class:`ImageFiles`.

    Without ``n_channels`` the set is grey where every image is. Every file is opened in either case, so that one
    that is no image is found now; damage behind its header is found by decoding, which ``skip_unreadable`` does
    for the lazy set, too. Without ``check_images`` a lazy set is not opened at all. Raises ``ValueError`` naming the
    first image that cannot be read, or ``where`` if none can. A passing progress bar shows how far it is, unless
    ``quiet``.
    """
    n = len(store)
    if not options.check_images and not options.fits(n):
        return Gathered(
            ImageFiles(store, options.fit(options.n_channels or 3), advice=_ADVICE), np.ones(n, bool)
        )
    reader = _Reader(n, options)
    text = f"{'reading' if reader.decodes else 'opening'} {n:,} images"
    in_threads(lambda i: reader.read(i, store.open(i), store.name(i)), n, None if quiet else text)
    return reader.gathered(where, store)


def gather_batches(
    batches: Iterable[Sequence[bytes]], n: int, options: ImageOptions, *, where: str
) -> Gathered:
    """As :func:`gather` for ``n`` encoded images that come in order, some at a time, and fit into memory decoded."""
    reader = _Reader(n, options)
    start = 0
    for batch in batches:
        work = partial(_read_of_batch, reader, batch, start, where)
        in_threads(work, len(batch))
        start += len(batch)
    return reader.gathered(where, None)


def _read_of_batch(reader: _Reader, batch: Sequence[bytes], start: int, where: str, i: int) -> None:
    reader.read(start + i, io.BytesIO(batch[i]), f"{where}: row {start + i}")


class _Reader:
    """The images of a set as they are read, in any order, by several threads."""

    def __init__(self, n: int, options: ImageOptions) -> None:
        self._n, self._options = n, options
        # Grey files as RGB have three equal channels, so that one array serves until all modes are known.
        self._fit = options.fit(options.n_channels or 3)
        self._images = np.empty((n, *self._fit.shape), np.uint8) if options.fits(n) else None
        self._keep, self._grey = np.ones(n, bool), np.ones(n, bool)
        self.decodes = self._images is not None or options.skip_unreadable

    def read(self, i: int, source: str | BinaryIO, name: str) -> None:
        """Read image ``i``. Raises ``ValueError`` naming it where it cannot be read and is not to be left out."""
        try:
            pixels, self._grey[i] = decode(source, self._fit if self.decodes else None, name)
        except ValueError:
            if not self._options.skip_unreadable:
                raise
            self._keep[i] = False
            return
        if self._images is not None:
            self._images[i] = pixels

    def gathered(self, where: str, store: FileStore | PackedStore | None) -> Gathered:
        """All that was read; ``store`` holds the images where they stay in files."""
        options, keep, images = self._options, self._keep, self._images
        if self._n and not keep.any():
            raise ValueError(f"{where}: none of the {self._n:,} images can be read")
        all_grey = options.n_channels is None and bool(self._grey[keep].all()) and self._n > 0
        if images is None:
            assert store is not None
            kept = store if keep.all() else store.take(np.flatnonzero(keep))
            return Gathered(ImageFiles(kept, options.fit(1) if all_grey else self._fit, advice=_ADVICE), keep)
        if not keep.all():
            images = images[keep]
        if all_grey:
            images = np.ascontiguousarray(images[..., :1])
        return Gathered(images, keep)


def warn_of_unreadable(where: str, skipped: Sequence[str]) -> None:
    """The warning that goes with ``skip_unreadable``."""
    if skipped:
        warnings.warn(
            f"{where}: {len(skipped)} unreadable images left out: {some(tuple(skipped))}", stacklevel=4
        )


def item_names(names: Sequence[str]) -> tuple[str, ...]:
    """File names as ids: printable text of UTF-8, told apart where two names would read the same."""
    ids = [printable(name) for name in names]
    escaped = [i for i, (name, id_) in enumerate(zip(names, ids, strict=True)) if name != id_]
    if escaped:
        taken = {id_ for i, id_ in enumerate(ids) if ids[i] == names[i]}
        for i in escaped:
            number, plain = 1, ids[i]
            while ids[i] in taken:
                number += 1
                ids[i] = f"{plain} ({number})"
            taken.add(ids[i])
    return tuple(ids)
