"""Codebooks: which codes each class owns.

DSHC (Luo et al., *Deep Supervised Hashing by Classification*) splits every class into sub-classes and gives
each sub-class a fixed code, so that a classifier over sub-classes is a hash function by table look-up. This
module makes the tables and measures them.

* ``cpbc`` (center-point based): L = C*H bits, the center of class i is 1 on its own block of H bits and 0
  elsewhere; its sub-codes are the center and the L codes one flipped bit away. Two centers differ in 2H bits,
  so sub-codes of different classes are at least 2H - 2 apart while those of one class are at most 2 apart:
  classes separate from H = 3 on, and at H = 1 they share codes.
* ``kbc`` (k-means based): the centers are the rounded centroids of a k-means over all 2^L codes, the
  sub-codes those codes within 1 of their center that keep a distance to all other centers. Short codes only.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import dshc_fast

from . import geometry
from .arrays import load_arrays, save_arrays

__all__ = ["MAX_BITS", "Codebook", "build", "constructions", "default_bits"]

MAX_BITS = 4096
MAX_DEFAULT_OUTPUTS = 100_000
MAX_KBC_BITS = 20
KBC_DRAWS = 1000
_LLOYD_STEPS = 100
_KIND = "dshc.codebook/1"


@dataclass(frozen=True, eq=False)
class Codebook:
    """The codes of all sub-classes, class by class.

    Fields (numpy): ``codes`` uint8 ``(n_subclasses, bytes)``, packed as `dshc_fast` packs (bit j is byte j //
    8, position j % 8; padding 0); ``class_offsets`` int64 ``(C + 1,)``, class c owns the rows
    ``class_offsets[c]:class_offsets[c + 1]``; ``centers`` uint8 ``(C, bytes)``. ``seed`` and ``threshold``
    say how a KBC book was drawn, None elsewhere. Distances and collisions are computed, exactly, when first
    asked for.

    Raises ``ValueError`` or ``TypeError`` naming the field where the parts do not fit together.
    """

    construction: str
    n_bits: int
    codes: np.ndarray
    class_offsets: np.ndarray
    centers: np.ndarray
    seed: int | None = None
    threshold: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n_bits <= MAX_BITS:
            raise ValueError(f"n_bits: got {self.n_bits}, taken is 1 to {MAX_BITS}")
        width = -(-self.n_bits // 8)
        for name in ("codes", "centers"):
            array = getattr(self, name)
            if array.dtype != np.uint8:
                raise TypeError(f"{name}: got dtype {array.dtype}, taken is uint8")
            if array.ndim != 2 or array.shape[1] != width or not len(array):
                raise ValueError(
                    f"{name}: got shape {array.shape}, taken is (>= 1, {width}) at {self.n_bits} bits"
                )
            if self.n_bits % 8 and (array[:, -1] >> (self.n_bits % 8)).any():
                raise ValueError(f"{name}: padding bits beyond bit {self.n_bits} are set, taken is 0")
        offsets = self.class_offsets
        if offsets.dtype != np.int64:
            raise TypeError(f"class_offsets: got dtype {offsets.dtype}, taken is int64")
        if offsets.shape != (len(self.centers) + 1,):
            raise ValueError(f"class_offsets: got shape {offsets.shape}, taken is ({len(self.centers) + 1},)")
        if offsets[0] != 0 or offsets[-1] != len(self.codes) or (np.diff(offsets) < 1).any():
            raise ValueError(
                f"class_offsets: got {offsets}, taken is strictly rising from 0 to {len(self.codes)}"
            )

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
        parts = zip(self.class_offsets[:-1], self.class_offsets[1:], strict=True)
        within = sum(geometry.total_distance(self.codes[start:stop], self.n_bits) for start, stop in parts)
        return within, geometry.total_distance(self.codes, self.n_bits) - within

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
        """D_intra - D_inter of the paper: sums of distances over ordered pairs within and between classes."""
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
    def min_within(self) -> int | None:
        """Smallest distance between two sub-codes of one class; None where no class has two."""
        return geometry.smallest_within(self.codes, self.class_offsets, self._owners[2])

    @cached_property
    def min_between(self) -> int | None:
        """Smallest distance between sub-codes of different classes; None for a single class."""
        return geometry.smallest_between(self.codes, self.class_offsets, self.centers, self.collisions > 0)

    def thinned(self, per_class: int) -> Codebook:
        """This codebook with at most ``per_class`` codes a class, those that lie far apart.

        In each class the code farthest from the others (by the sum of distances) comes first, then always the
        one whose least distance to those chosen is largest, at equal ones the first of the book. Of a ball of
        radius 1 these are flips, 2 apart, and not the center, 1 from all of them. Kept codes stay in the
        book's order; ``centers`` stay what they are. Raises ``ValueError`` where ``per_class`` is below 1.
        """
        per_class = _whole("per_class", per_class, 1)
        kept = []
        for start, stop in zip(self.class_offsets[:-1], self.class_offsets[1:], strict=True):
            own = self.codes[start:stop]
            kept.append(start + geometry.far_apart(own, per_class))
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])]).astype(np.int64)
        return dataclasses.replace(self, codes=self.codes[np.concatenate(kept)], class_offsets=offsets)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the codebook as one safetensors file, whole or not at all."""
        metadata = {"construction": self.construction, "n_bits": str(self.n_bits), "bit_order": "little"}
        for name in ("seed", "threshold"):
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
            numbers = {name: int(metadata[name]) for name in ("seed", "threshold") if name in metadata}
            return cls(metadata["construction"], int(metadata["n_bits"]), **arrays, **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a codebook ({error})") from None


def build(construction: str, n_classes: int, n_bits: int, *, seed: int = 0, threshold: int = 3) -> Codebook:
    """A codebook for ``n_classes`` classes of ``n_bits`` bits.

    ``construction`` is ``"cpbc"`` or ``"kbc"``. CPBC uses C*H bits with H = floor(n_bits / C) and leaves the
    rest constant 0; it warns (``UserWarning``) where classes share codes (H = 1) or cannot separate (H < 3).
    ``seed`` and ``threshold`` are KBC's: a sub-code closer than ``threshold`` to the center of another class
    is dropped; a draw that leaves a class without a code is drawn again.

    Raises ``ValueError`` where the construction cannot exist: CPBC with fewer bits than classes, KBC (which
    enumerates all 2^n_bits codes) with more than 20 bits, more classes than codes, or no usable draw among
    1000.

    Source: Luo et al., section 3.2; the filter of KBC, which the paper names but does not define, is the
    reading that meets its count of sub-classes.

    >>> book = build("cpbc", 10, 30)
    >>> book.n_subclasses, book.n_distinct, book.collisions, book.min_between
    (310, 310, 0, 4)
    """
    makers = {"cpbc": _cpbc, "kbc": _kbc}
    if construction not in makers:
        raise ValueError(f"construction: got {construction!r}, taken is one of {', '.join(makers)}")
    n_classes = _whole("n_classes", n_classes, 1)
    n_bits = _whole("n_bits", n_bits, 1)
    if n_bits > MAX_BITS:
        raise ValueError(f"n_bits: got {n_bits}, taken is 1 to {MAX_BITS}")
    return makers[construction](n_classes, n_bits, _whole("seed", seed, 0), _whole("threshold", threshold, 0))


def constructions() -> tuple[str, ...]:
    """The names :func:`build` takes."""
    return ("cpbc", "kbc")


def default_bits(n_classes: int) -> int:
    """The code length where none is asked for: 3 bits a class, by which cpbc separates the classes.

    Raises ``ValueError`` where that makes more than 100,000 outputs: cpbc's grow with the square of the
    classes, so that so large a head is made only where it is asked for.
    """
    n_bits = 3 * n_classes
    if n_classes * (n_bits + 1) > MAX_DEFAULT_OUTPUTS:
        raise ValueError(
            f"bits: the default for {n_classes} classes, 3 bits a class, is {n_bits} bits, which make "
            f"{n_classes * (n_bits + 1):,} outputs; say what to take: --bits {n_bits} for that, --bits {n_classes} "
            f"for the shortest cpbc code ({n_classes * (n_classes + 1):,} outputs), or --construction kbc with "
            f"--bits up to {MAX_KBC_BITS}"
        )
    return n_bits


def _cpbc(n_classes: int, n_bits: int, seed: int, threshold: int) -> Codebook:
    per_class = n_bits // n_classes
    if per_class == 0:
        raise ValueError(
            f"n_bits: cpbc needs at least one bit a class, got {n_bits} bits for {n_classes} classes; "
            f"take n_bits >= {n_classes} (3 bits a class, {3 * n_classes}, to separate the classes)"
        )
    if n_classes > 1 and per_class == 1:
        shared = 1 + n_classes * (n_classes - 1) // 2
        warnings.warn(
            f"cpbc with H = 1 ({n_bits} bits, {n_classes} classes): sub-codes of different classes collide, "
            f"{shared} codes belong to more than one class; H >= 3 ({3 * n_classes} bits) separates them",
            UserWarning,
            stacklevel=3,
        )
    elif n_classes > 1 and per_class == 2:
        warnings.warn(
            f"cpbc with H = 2 ({n_bits} bits, {n_classes} classes) cannot separate the classes: sub-codes "
            f"of different classes come as near (2) as those of one; H >= 3 ({3 * n_classes} bits) separates",
            UserWarning,
            stacklevel=3,
        )
    used = n_classes * per_class
    centers = np.zeros((n_classes, n_bits), dtype=bool)
    centers[:, :used] = np.repeat(np.eye(n_classes, dtype=bool), per_class, axis=1)
    centers = dshc_fast.pack_codes(centers)
    # Row 0 flips nothing (the center itself), row 1 + j flips bit j; padding bits are never flipped.
    flips = dshc_fast.pack_codes(np.eye(used + 1, n_bits, k=-1, dtype=bool))
    codes = (centers[:, None, :] ^ flips).reshape(n_classes * len(flips), -1)
    offsets = np.arange(n_classes + 1, dtype=np.int64) * len(flips)
    return Codebook("cpbc", n_bits, codes, offsets, centers)


def _kbc(n_classes: int, n_bits: int, seed: int, threshold: int) -> Codebook:
    if n_bits > MAX_KBC_BITS:
        raise ValueError(f"n_bits: got {n_bits}, kbc (all 2^n_bits codes) takes 1 to {MAX_KBC_BITS}")
    if n_classes > 2**n_bits:
        raise ValueError(f"n_classes: got {n_classes}, but {n_bits} bits make only {2**n_bits} codes")
    rng = np.random.PCG64(seed)
    for _ in range(KBC_DRAWS):
        centers, kept = _kbc_draw(n_classes, n_bits, threshold, rng)
        if all(len(own) for own in kept):
            sizes = [len(own) for own in kept]
            offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            codes = _as_bytes(np.concatenate(kept), n_bits)
            return Codebook("kbc", n_bits, codes, offsets, _as_bytes(centers, n_bits), seed, threshold)
    raise ValueError(
        f"n_bits: {KBC_DRAWS} draws of kbc each left a class without a code ({n_classes} classes, "
        f"{n_bits} bits, threshold {threshold}); take more bits or a lower threshold"
    )


def _kbc_draw(
    n_classes: int, n_bits: int, threshold: int, rng: np.random.PCG64
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One k-means: the rounded centroids as code values ``(C,)``, and the sorted code values each class
    keeps.

    A code's value is the number with bit j worth 2^j. A class may keep none; equal centers drop each other's
    codes.
    """
    bits = np.arange(2**n_bits) >> np.arange(n_bits)[:, None]
    points = np.where(bits & 1, 1.0, -1.0)  # (n_bits, 2^n_bits)
    # numpy guarantees the raw words of PCG64 for ever, not what its samplers make of them.
    sums = points[:, np.argsort(rng.random_raw(2**n_bits), kind="stable")[:n_classes]].T
    sizes = np.ones((n_classes, 1))
    cluster = np.full(2**n_bits, -1)
    n_parts = max(1, n_classes * 2**n_bits >> 20)
    for _ in range(_LLOYD_STEPS):
        # Products of whole numbers are exact in float64 whatever the BLAS, so that every machine resolves the
        # many equal distances of a hypercube alike. |x - s/n|^2 orders like (|s|^2/n - 2 x.s)/n.
        offsets = (sums**2).sum(axis=1, keepdims=True) / sizes
        parts = np.array_split(points, n_parts, axis=1)
        nearest = np.concatenate([((offsets - 2 * (sums @ part)) / sizes).argmin(axis=0) for part in parts])
        if (nearest == cluster).all():
            break
        cluster = nearest
        counts = np.bincount(cluster, minlength=n_classes)[:, None]
        new_sums = np.stack([np.bincount(cluster, bit, minlength=n_classes) for bit in points], axis=1)
        # A cluster that lost all its points keeps its centroid.
        sums, sizes = np.where(counts > 0, new_sums, sums), np.where(counts > 0, counts, sizes)
    centers = ((sums >= 0) << np.arange(n_bits)).sum(axis=1)
    packed = _as_bytes(centers, n_bits)
    kept = []
    for c, center in enumerate(centers):
        ball = np.sort(np.concatenate([[center], center ^ (1 << np.arange(n_bits))]))
        apart = dshc_fast.hamming_distance(_as_bytes(ball, n_bits), packed)
        apart[:, c] = np.iinfo(apart.dtype).max
        kept.append(ball[(apart >= threshold).all(axis=1)])
    return centers, kept


def _as_bytes(values: np.ndarray, n_bits: int) -> np.ndarray:
    """Code values as packed codes."""
    as_bytes = np.ascontiguousarray(values, dtype="<i8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(as_bytes[:, : -(-n_bits // 8)])


def _whole(name: str, value: int, least: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, taken is a whole number") from None
    if number < least:
        raise ValueError(f"{name}: got {number}, taken is at least {least}")
    return number
