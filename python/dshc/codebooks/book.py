"""A codebook: the codes of all sub-classes, what keeps them apart, and its file."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..storage.array_files import load_arrays, save_arrays
from . import geometry
from .bounds import distance_bound

__all__ = ["MAX_BITS", "Codebook"]

MAX_BITS = 4096
_KIND = "dshc.codebook/1"
_NUMBERS = ("seed", "threshold", "radius", "search_steps")


@dataclass(frozen=True, eq=False)
class Codebook:
    """The codes of all sub-classes, class by class.

    Fields (numpy): ``codes`` uint8 ``(n_subclasses, bytes)``, packed as `dshc_fast` packs (bit j is byte j //
    8, position j % 8; padding 0); ``class_offsets`` int64 ``(C + 1,)``, class c owns the rows
    ``class_offsets[c]:class_offsets[c + 1]``; ``centers`` uint8 ``(C, bytes)``. ``seed``, ``threshold``, ``radius``
    and ``search_steps`` are the arguments of :func:`dshc.codebooks.build` that had a say, None elsewhere; ``origin``
    says in words where the centers come from. Distances and collisions are computed, exactly, when first asked for;
    nothing of size codes x codes is ever held.

    Raises ``ValueError`` or ``TypeError`` naming the field where the parts do not fit together.
    """

    construction: str
    n_bits: int
    codes: np.ndarray
    class_offsets: np.ndarray
    centers: np.ndarray
    seed: int | None = None
    threshold: int | None = None
    radius: int | None = None
    search_steps: int | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.n_bits, bool) or not isinstance(self.n_bits, (int, np.integer)):
            raise TypeError(f"n_bits must be a whole number, got {self.n_bits!r}")
        for name in ("codes", "centers", "class_offsets"):
            if not isinstance(array := getattr(self, name), np.ndarray):
                raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
        if not 1 <= self.n_bits <= MAX_BITS:
            raise ValueError(f"n_bits must be between 1 and {MAX_BITS}, got {self.n_bits}")
        width = -(-self.n_bits // 8)
        for name in ("codes", "centers"):
            array = getattr(self, name)
            if array.dtype != np.uint8:
                raise TypeError(f"{name} must be uint8, got {array.dtype}")
            if array.ndim != 2 or array.shape[1] != width or not len(array):
                raise ValueError(
                    f"{name} must have shape (>= 1, {width}) at {self.n_bits} bits, got {array.shape}"
                )
            if self.n_bits % 8 and (array[:, -1] >> (self.n_bits % 8)).any():
                raise ValueError(
                    f"{name} must have padding bits of 0 (from bit {self.n_bits} on), got some that are set"
                )
        offsets = self.class_offsets
        if offsets.dtype != np.int64:
            raise TypeError(f"class_offsets must be int64, got {offsets.dtype}")
        if offsets.shape != (len(self.centers) + 1,):
            raise ValueError(f"class_offsets must have shape ({len(self.centers) + 1},), got {offsets.shape}")
        if offsets[0] != 0 or offsets[-1] != len(self.codes) or (np.diff(offsets) < 1).any():
            raise ValueError(f"class_offsets must rise strictly from 0 to {len(self.codes)}, got {offsets}")

    @property
    def n_classes(self) -> int:
        return len(self.centers)

    @property
    def n_subclasses(self) -> int:
        return len(self.codes)

    @cached_property
    def _owners(self) -> tuple[int, int, bool]:
        return geometry.owners(self.codes, self.class_offsets)

    @cached_property
    def _sums(self) -> tuple[int, int]:
        """Sum of distances over ordered pairs of codes of one class, and of different classes."""
        return geometry.total_distances(self.codes, self.class_offsets, self.n_bits)

    @property
    def n_distinct(self) -> int:
        """Number of different codes."""
        return self._owners[0]

    @property
    def collisions(self) -> int:
        """Number of codes owned by more than one class."""
        return self._owners[1]

    @property
    def objective(self) -> int:
        """D_intra - D_inter, equation (1) of Luo et al.: sums of Hamming distances over ordered pairs of codes within
        and between classes; the less the better.
        """
        within, between = self._sums
        return within - between

    @property
    def mean_within(self) -> float | None:
        """Mean distance over pairs of different sub-codes of one class; None where no class has two."""
        sizes = np.diff(self.class_offsets)
        n_pairs = int((sizes * (sizes - 1)).sum())
        return self._sums[0] / n_pairs if n_pairs else None

    @property
    def mean_between(self) -> float | None:
        """Mean distance over pairs of sub-codes of different classes; None for a single class."""
        sizes = np.diff(self.class_offsets)
        n_pairs = int(self.n_subclasses**2 - (sizes**2).sum())
        return self._sums[1] / n_pairs if n_pairs else None

    @cached_property
    def center_distance(self) -> int | None:
        """Smallest distance between two centers; None for a single class."""
        return geometry.smallest(self.centers)

    @property
    def distance_bound(self) -> tuple[int | None, str]:
        """The largest distance that so many centers of so many bits could keep by the bounds of
        :mod:`dshc.codebooks.bounds`, and the name of the one that forbids more; None for a single class.
        """
        return distance_bound(self.n_classes, self.n_bits)

    @cached_property
    def min_within(self) -> int | None:
        """Smallest distance between two sub-codes of one class; None where no class has two."""
        return geometry.smallest_within(self.codes, self.class_offsets, self._owners[2])

    @cached_property
    def min_between(self) -> int | None:
        """Smallest distance between sub-codes of different classes; None for a single class."""
        return geometry.smallest_between(self.codes, self.class_offsets, self.centers, self.collisions > 0)

    def thinned(self, per_class: int) -> Codebook:
        """This codebook with at most ``per_class`` codes per class, those that lie far apart.

        In each class the code farthest from the others (by the sum of distances) comes first, then always the
        one whose least distance to those chosen is largest, at equal ones the first of the book. Of a ball of
        radius 1 these are flips, 2 apart, and not the center, 1 from all of them. Kept codes stay in the
        book's order; ``centers`` stay what they are. Raises ``ValueError`` where ``per_class`` is below 1.
        """
        if per_class < 1:
            raise ValueError(f"per_class must be at least 1, got {per_class}")
        kept = []
        for start, stop in zip(self.class_offsets[:-1], self.class_offsets[1:], strict=True):
            own = self.codes[start:stop]
            kept.append(start + geometry.far_apart(own, per_class))
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])]).astype(np.int64)
        return replace(self, codes=self.codes[np.concatenate(kept)], class_offsets=offsets)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the codebook as one safetensors file, whole or not at all."""
        metadata = {"construction": self.construction, "n_bits": str(self.n_bits), "bit_order": "little"}
        for name in (*_NUMBERS, "origin"):
            if getattr(self, name) is not None:
                metadata[name] = str(getattr(self, name))
        arrays = {"codes": self.codes, "class_offsets": self.class_offsets, "centers": self.centers}
        return save_arrays(path, _KIND, arrays, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Codebook:
        """Read a codebook.

        Raises ``FileNotFoundError`` for a missing file and ``ValueError`` for a damaged one, both naming it.
        """
        arrays, metadata = load_arrays(path, _KIND)
        try:
            numbers = {name: int(metadata[name]) for name in _NUMBERS if name in metadata}
            return cls(
                metadata["construction"],
                int(metadata["n_bits"]),
                **arrays,
                **numbers,
                origin=metadata.get("origin"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must be a codebook, got something else ({error})") from None
