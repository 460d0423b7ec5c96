"""Which sub-codes a class gets: the codes around its center, nearest first.

Luo et al. use the center and all codes one flipped bit away. Any other choice is as good for the loss and the
encoder: a radius of 0 leaves the centers alone (one output a class), 2 adds all pairs of flips, and a number of
sub-codes keeps the first ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice
from math import comb

import numpy as np

import dshc_fast

__all__ = ["MAX_SUBCLASSES", "balls", "class_sizes", "is_whole", "patterns"]

MAX_SUBCLASSES = 1 << 27


def patterns(n_bits: int, radius: int, count: int | None = None, flipped: int | None = None) -> np.ndarray:
    """The error patterns of weight 0 to ``radius``, packed uint8 ``(m, bytes)``: by weight, then by the bits flipped.

    Only bits below ``flipped`` (None: all) are flipped; the first ``count`` are returned, or all if there are fewer.
    """
    flipped = n_bits if flipped is None else flipped
    total = sum(comb(flipped, weight) for weight in range(radius + 1))
    total = total if count is None else min(count, total)
    if total > MAX_SUBCLASSES:
        raise ValueError(
            f"radius must make at most {MAX_SUBCLASSES:,} sub-codes per class, got {total:,} of {n_bits} bits at "
            f"radius {radius}; choose a smaller one, or limit them by sub_codes"
        )
    table = np.zeros((total, n_bits), dtype=bool)
    flips = (bits for weight in range(radius + 1) for bits in combinations(range(flipped), weight))
    for row, bits in enumerate(islice(flips, total)):
        table[row, list(bits)] = True
    return dshc_fast.pack_codes(table)


def class_sizes(sub_codes: int | Sequence[int] | None, n_classes: int) -> list[int | None]:
    """The number of sub-codes asked of each class; None: all within the radius.

    Raises ``TypeError`` or ``ValueError`` naming ``sub_codes`` where it is no count, or not one per class.
    """
    single = sub_codes is None or isinstance(sub_codes, (int, np.integer))
    if not single and (isinstance(sub_codes, str) or not isinstance(sub_codes, (Sequence, np.ndarray))):
        raise TypeError(f"sub_codes must be a whole number, or one per class, got {sub_codes!r}")
    sizes: list[int | None] = [sub_codes] * n_classes if single else list(sub_codes)  # type: ignore
    if len(sizes) != n_classes:
        raise ValueError(
            f"sub_codes must be one number or one per class, got {len(sizes)} numbers for {n_classes} classes"
        )
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not isinstance(size, (int, np.integer))):
            raise TypeError(f"sub_codes must be a whole number, got {size!r}")
        if size is not None and size < 1:
            raise ValueError(f"sub_codes must be at least 1, got {size}")
    return sizes


def is_whole(
    n_bits: int, radius: int, sub_codes: int | Sequence[int] | None, flipped: int | None = None
) -> bool:
    """Whether a class gets all codes within the radius, whatever number it is limited to."""
    flipped = n_bits if flipped is None else flipped
    size = sum(comb(flipped, weight) for weight in range(radius + 1))
    return any(limit is None or limit >= size for limit in np.atleast_1d(np.array(sub_codes, dtype=object)))


def balls(
    centers: np.ndarray,
    n_bits: int,
    radius: int,
    sub_codes: int | Sequence[int] | None = None,
    flipped: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and class offsets of the sub-codes around packed ``centers``, each class's nearest first."""
    sizes = class_sizes(sub_codes, len(centers))
    most = None if None in sizes else max(sizes)
    table = patterns(n_bits, radius, most, flipped)
    counts = np.array(
        [len(table) if size is None else min(size, len(table)) for size in sizes], dtype=np.int64
    )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if offsets[-1] > MAX_SUBCLASSES:
        raise ValueError(
            f"radius must make at most {MAX_SUBCLASSES:,} sub-codes in all classes, got {offsets[-1]:,} in "
            f"{len(centers):,} classes at radius {radius}; choose a smaller one, or limit them by sub_codes"
        )
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    return np.repeat(centers, counts, axis=0) ^ table[within], offsets
