"""Images in files, decoded when they are asked for: what a set holds that is too large for memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..progress import progress
from .image_fit import ImageFit, decode, printable
from .image_stores import FileStore, PackedStore

__all__ = ["ImageFiles", "in_threads"]

_WINDOW = 256  # items handed to the threads at a time: bounds what waits, and how long a Ctrl-C takes


class ImageFiles:
    """Images in files, decoded when they are asked for: behaves like a uint8 array ``(n, h, w, c)``.

    ``paths``: the files (or a store, see ``image_stores.py``); ``fit``: how they are brought to size.
    ``images[3]`` is one image ``(h, w, c)``; a slice, a list or an array of integers or of bools gives ``(k, h, w,
    c)``, decoded by threads. Nothing decoded is kept. Pickles, and so goes to worker processes. A file that cannot
    be decoded raises ``ValueError`` naming it.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]] | FileStore | PackedStore,
        fit: ImageFit,
        *,
        advice: str = "",
    ) -> None:
        self.store = paths if isinstance(paths, (FileStore, PackedStore)) else FileStore(paths)
        self.fit = fit
        self.advice = advice  # ends the error of an image that cannot be decoded

    @property
    def paths(self) -> Sequence[Path]:
        """The files, in order; empty where the images are not files of their own."""
        return self.store.paths

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(n, h, w, c)``."""
        return len(self.store), *self.fit.shape

    @property
    def nbytes(self) -> int:
        """Bytes that all images take once decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        n, h, w, c = self.shape
        return f"ImageFiles({n} images, {h} x {w} x {c}, {self.fit.interpolation})"

    @overload
    def __getitem__(self, items: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, items: slice | Sequence[int] | np.ndarray) -> np.ndarray: ...

    def __getitem__(self, items: Any) -> np.ndarray:
        if isinstance(items, (int, np.integer)) and not isinstance(items, bool):
            n = len(self)
            if not -n <= items < n:
                raise IndexError(f"item must be from {-n} to {n - 1}, got {items}")
            return self._decode(int(items) % n)
        rows = self._rows(items)
        images = np.empty((len(rows), *self.fit.shape), np.uint8)

        def work(place: int) -> None:
            images[place] = self._decode(int(rows[place]))

        in_threads(work, len(rows))
        return images

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("images in files must be decoded to become an array: copy cannot be False")
        return self.decoded(None).astype(dtype or np.uint8, copy=False)

    def decoded(self, text: str | None = "decoding images") -> np.ndarray:
        """All images, uint8 ``(n, h, w, c)``; a passing progress bar bears ``text`` (None: no bar)."""
        images = np.empty(self.shape, np.uint8)

        def work(i: int) -> None:
            images[i] = self._decode(i)

        in_threads(work, len(self), text)
        return images

    def take(self, rows: np.ndarray) -> ImageFiles:
        """The images of these rows (bool ``(n,)`` or integers), still in files."""
        return ImageFiles(self.store.take(self._rows(rows)), self.fit, advice=self.advice)

    def digest(self) -> str:
        """SHA-256, hexadecimal, over the files' bytes in order and the fit; paths and times are not in it."""
        sums: list[bytes] = [b""] * len(self)

        def work(i: int) -> None:
            sums[i] = self.store.sha256(i)

        in_threads(work, len(self), "reading images for their checksum")
        fit = self.fit
        head = f"dshc.images/1 {fit.height} {fit.width} {fit.n_channels} {fit.interpolation} {len(self)}\n"
        return hashlib.sha256(head.encode() + b"".join(sums)).hexdigest()

    def _decode(self, i: int) -> np.ndarray:
        try:
            return decode(self.store.open(i), self.fit, self.store.name(i))[0]
        except OSError as error:
            reason = error.strerror or str(error)
        except ValueError as error:
            raise ValueError(f"{error}{self.advice}") from None
        raise ValueError(f"{printable(self.store.name(i))}: cannot be read ({reason})")

    def _rows(self, items: Any) -> np.ndarray:
        n = len(self)
        if isinstance(items, slice):
            return np.arange(*items.indices(n))
        rows = np.asarray(items)
        if rows.size == 0 and rows.ndim == 1:
            return np.zeros(0, np.int64)
        if rows.dtype == np.bool_ and rows.shape == (n,):
            return np.flatnonzero(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise IndexError(
                f"items must be an integer, a slice, integers (k,) or bools ({n},), "
                f"got {type(items).__name__} of dtype {rows.dtype} and shape {rows.shape}"
            )
        rows = rows.astype(np.int64)
        if rows.min() < -n or rows.max() >= n:
            raise IndexError(f"items must be from {-n} to {n - 1}, got {rows.min()} to {rows.max()}")
        return np.where(rows < 0, rows + n, rows)


def in_threads(work: Callable[[int], Any], n: int, text: str | None = None) -> None:
    """Call ``work(0)`` to ``work(n - 1)`` from threads; of several errors the one of the lowest number is raised.

    Pillow decodes and resizes, and hashlib hashes, with the GIL released. ``text`` puts up a progress bar.
    """
    if n <= 1:
        for i in range(n):
            work(i)
        return
    if text is None:
        _in_windows(work, n, lambda done, total: None)
        return
    with progress(text) as update:
        _in_windows(work, n, update)


def _in_windows(work: Callable[[int], Any], n: int, update: Callable[[int, int], None]) -> None:
    pool = ThreadPoolExecutor(min(8, n, _n_processors()), thread_name_prefix="dshc-images")
    try:
        for start in range(0, n, _WINDOW):
            stop = min(start + _WINDOW, n)
            for _ in pool.map(work, range(start, stop)):
                pass
            update(stop, n)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _n_processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # systems that have none of this
        return os.cpu_count() or 1
