"""From a list of image files to the inputs of a set: decoded at once, or when they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .image_files import FileStore, ImageFiles, PackedStore, in_threads
from .image_fit import ImageFit, decode, printable
from .scan import some

__all__ = ["DEFAULT_SIZE", "Gathered", "ImageOptions", "gather", "item_names", "warn_of_unreadable"]

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

    def __post_init__(self) -> None:
        if self.n_channels not in (None, 1, 3):
            raise InputError(
                f"n_channels must be 1 (grey), 3 (RGB) or None (as the files are), got {self.n_channels!r}"
            )
        limit = self.max_memory_mib
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0:
            raise InputError(f"max_memory_mib must be a number of MiB from 0 on, got {limit!r}")
        self.fit(3)

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
    for the lazy set, too. Raises ``ValueError`` naming the first image that cannot be read, or ``where`` if none
    can. A passing progress bar shows how far it is, unless ``quiet``.
    """
    n = len(store)
    # Grey files as RGB have three equal channels, so that one array serves until all modes are known.
    fit = options.fit(options.n_channels or 3)
    lazy = n * fit.height * fit.width * fit.n_channels > options.max_memory_mib * 2**20
    images = None if lazy else np.empty((n, *fit.shape), np.uint8)
    keep, grey = np.ones(n, bool), np.ones(n, bool)
    probe = fit if not lazy or options.skip_unreadable else None

    def work(i: int) -> None:
        try:
            pixels, grey[i] = decode(store.open(i), probe, store.name(i))
        except ValueError:
            if not options.skip_unreadable:
                raise
            keep[i] = False
            return
        if images is not None:
            images[i] = pixels

    text = f"{'opening' if probe is None else 'reading'} {n:,} images"
    in_threads(work, n, None if quiet else text)
    if n and not keep.any():
        raise ValueError(f"{where}: none of the {n:,} images can be read")
    all_grey = options.n_channels is None and bool(grey[keep].all()) and n > 0
    if images is None:
        kept = store if keep.all() else store.take(np.flatnonzero(keep))
        return Gathered(ImageFiles(kept, options.fit(1) if all_grey else fit, advice=_ADVICE), keep)
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
