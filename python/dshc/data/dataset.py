"""One labelled set, whatever it was read from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .image_files import ImageFiles
from .reading import Reading

if TYPE_CHECKING:
    from .pairs import Pairs

__all__ = ["Dataset"]

_SAMPLE = 1024  # rows


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items, their labels and what is known about them. Compared by identity; the arrays are not copied.

    Fields:

    * ``name``: a name for messages and run folders.
    * ``kind``: ``"images"`` or ``"features"``.
    * ``inputs``: images uint8 ``(n, h, w, c)`` with c 1 (grey) or 3 (RGB), as an array or, where they are too
      many for memory, as :class:`ImageFiles`; features float32 ``(n, d)``, all finite.
    * ``labels``: class ids int64 ``(n,)`` in 0..C-1, or multi-hot uint8 ``(n, C)`` of 0 and 1, or None
      (unlabelled).
    * ``class_names``: C names; empty without labels.
    * ``test_mask``: bool ``(n,)``, True for the items of the set's official test part; None where it has
      none.
    * ``ids``: n file names or given ids; None where items have no name.
    * ``skipped``: files that were left out because they could not be read (``skip_unreadable``).
    * ``reading``: what was read of a folder or list and what was left out; None for other sources.
    * ``published``: rows of the published split, int64, by ``"query"``, ``"train"`` and ``"database"`` (which may
      be missing); None where the set has none. The protocol ``published`` uses them.
    * ``pairs``: which pairs of items are known to be similar or not, for methods that are trained on pairs; a set with
      pairs has no labels.

    Raises ``TypeError`` for a wrong dtype and ``ValueError`` for a wrong shape or value, naming set and
    field.
    """

    name: str
    kind: str
    inputs: np.ndarray | ImageFiles
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    test_mask: np.ndarray | None = None
    ids: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    reading: Reading | None = None
    published: Mapping[str, np.ndarray] | None = None
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        self._check_inputs()
        self._check_labels()
        n = self.n_items
        if self.test_mask is not None:
            if self.test_mask.dtype != np.bool_:
                raise TypeError(f"{self.name}: test_mask must be bool, got {self.test_mask.dtype}")
            if self.test_mask.shape != (n,):
                raise ValueError(f"{self.name}: test_mask must have shape ({n},), got {self.test_mask.shape}")
        if self.ids is not None and len(self.ids) != n:
            raise ValueError(f"{self.name}: {len(self.ids)} ids for {n} items")
        if self.pairs is not None and (self.pairs.n_items != n or self.labels is not None):
            raise ValueError(
                f"{self.name}: pairs must be of {n} items without labels, got {self.pairs.n_items} items"
                f"{'' if self.labels is None else ' with labels'}"
            )
        self._check_published()

    def _check_inputs(self) -> None:
        kinds = {"images": (np.uint8, 4, "(n, h, w, c)"), "features": (np.float32, 2, "(n, d)")}
        if self.kind not in kinds:
            raise ValueError(f"{self.name}: kind must be 'images' or 'features', got {self.kind!r}")
        dtype, ndim, shape = kinds[self.kind]
        if self.inputs.dtype != dtype:
            raise TypeError(f"{self.name}: {self.kind} must be {np.dtype(dtype)}, got {self.inputs.dtype}")
        if self.inputs.ndim != ndim or 0 in self.inputs.shape:
            raise ValueError(
                f"{self.name}: {self.kind} must have shape {shape}, none of them 0, got {self.inputs.shape}"
            )
        if self.kind == "images" and self.inputs.shape[3] not in (1, 3):
            raise ValueError(
                f"{self.name}: images must have 1 (grey) or 3 (RGB) channels, got {self.inputs.shape[3]}"
            )
        if self.kind == "features":
            finite = np.isfinite(self.inputs).all(axis=1)
            if not finite.all():
                row = int(np.argmin(finite))
                raise ValueError(
                    f"{self.name}: features hold NaN or infinity, first in row {row} ({self.n_items} rows)"
                )

    def _check_labels(self) -> None:
        if self.labels is None:
            if self.class_names:
                raise ValueError(f"{self.name}: class_names without labels")
            return
        n, n_classes = self.n_items, len(self.class_names)
        if self.labels.ndim == 1:
            if self.labels.dtype != np.int64:
                raise TypeError(f"{self.name}: class ids must be int64, got {self.labels.dtype}")
            if self.labels.shape != (n,):
                raise ValueError(f"{self.name}: {len(self.labels)} labels for {n} items")
            if self.labels.min() < 0 or self.labels.max() >= n_classes:
                raise ValueError(
                    f"{self.name}: class ids from {self.labels.min()} to {self.labels.max()} "
                    f"for {n_classes} class names"
                )
            return
        if self.labels.dtype != np.uint8:
            raise TypeError(f"{self.name}: multi-hot labels must be uint8, got {self.labels.dtype}")
        if self.labels.shape != (n, n_classes):
            raise ValueError(
                f"{self.name}: labels must have shape ({n},) or ({n}, {n_classes}), got {self.labels.shape}"
            )
        if self.labels.max(initial=0) > 1:
            raise ValueError(f"{self.name}: multi-hot labels must be 0 and 1, got {self.labels.max()}")

    def _check_published(self) -> None:
        if self.published is None:
            return
        if not {"query", "train"} <= set(self.published) <= {"query", "train", "database"}:
            raise ValueError(
                f"{self.name}: a published split must have query, train and perhaps database, "
                f"got {', '.join(self.published) or 'nothing'}"
            )
        for part, rows in self.published.items():
            if rows.dtype != np.int64 or rows.ndim != 1:
                raise TypeError(
                    f"{self.name}: published {part} must be int64 (k,), got {rows.dtype} {rows.shape}"
                )
            if len(rows) and (rows.min() < 0 or rows.max() >= self.n_items):
                raise ValueError(f"{self.name}: published {part} must be rows below {self.n_items}")
            if len(np.unique(rows)) != len(rows):
                raise ValueError(f"{self.name}: published {part} must hold each row once")

    def digest(self) -> str:
        """SHA-256, hexadecimal, of the inputs (of files: their bytes and fit); labels are not in it. Kept."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        if isinstance(self.inputs, ImageFiles):
            return self.inputs.digest()
        digest = hashlib.sha256(f"dshc.inputs/1 {self.inputs.dtype.str} {self.inputs.shape}\n".encode())
        for start in range(0, self.n_items, 4096):  # some rows at a time: an array need not be contiguous
            digest.update(np.ascontiguousarray(self.inputs[start : start + 4096]))
        return digest.hexdigest()

    def sample_digest(self) -> str:
        """SHA-256, hexadecimal, of some features, spread over all: quick, and another where they were made anew.

        Empty of images, which are as their decoder has them.
        """
        if self.kind != "features":
            return ""
        rows = np.unique(np.linspace(0, self.n_items - 1, _SAMPLE).astype(np.int64))
        some = np.ascontiguousarray(self.inputs[rows])
        return hashlib.sha256(f"dshc.sample/1 {self.inputs.shape}\n".encode() + some.tobytes()).hexdigest()

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.inputs.shape[0]

    @property
    def n_classes(self) -> int:
        """Number of classes, or of labels for a multi-label set; 0 without labels."""
        return len(self.class_names)

    @property
    def multilabel(self) -> bool:
        """Whether an item may have several labels (multi-hot) rather than exactly one class."""
        return self.labels is not None and self.labels.ndim == 2

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item: ``(h, w, c)`` or ``(d,)``."""
        return self.inputs.shape[1:]
