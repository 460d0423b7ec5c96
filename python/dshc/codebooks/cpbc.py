"""CPBC, the paper's construction: a block of bits per class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

import dshc_fast

from .balls import balls, class_sizes, is_whole
from .book import Codebook

__all__ = ["cpbc"]


def cpbc(n_classes: int, n_bits: int, *, radius: int, sub_codes: int | Sequence[int] | None) -> Codebook:
    """See :func:`dshc.codebooks.build`."""
    per_class = n_bits // n_classes
    if per_class == 0:
        raise ValueError(
            f"n_bits must be at least one per class for cpbc, got {n_bits} bits for {n_classes} classes; "
            f"pass {n_classes} or more (3 per class, {3 * n_classes}, separate the classes), or the "
            "construction separated"
        )
    used = n_classes * per_class
    class_sizes(sub_codes, n_classes)
    if n_classes > 1 and 2 * per_class <= 4 * radius and is_whole(n_bits, radius, sub_codes, used):
        _warn(n_classes, n_bits, per_class, radius)
    centers = np.zeros((n_classes, n_bits), dtype=bool)
    centers[:, :used] = np.repeat(np.eye(n_classes, dtype=bool), per_class, axis=1)
    packed = dshc_fast.pack_codes(centers)
    # Bits beyond the blocks are the same everywhere and are never flipped.
    codes, offsets = balls(packed, n_bits, radius, sub_codes, flipped=used)
    origin = f"blocks of {per_class} bit" + "s" * (per_class > 1)
    return Codebook("cpbc", n_bits, codes, offsets, packed, radius=radius, origin=origin)


def _warn(n_classes: int, n_bits: int, per_class: int, radius: int) -> None:
    if radius > 1:
        apart, least = 2 * per_class - 2 * radius, 2 * radius + 1
        how = f"come as near ({apart}) as those of one ({2 * radius})" if apart > 0 else "collide"
        text = (
            f"cpbc with H = {per_class} ({n_bits} bits, {n_classes} classes) cannot separate the classes: sub-codes of "
            f"different classes at radius {radius} {how}; H >= {least} ({least * n_classes} bits) separates, as does a "
            "smaller radius"
        )
    elif per_class == 1:
        shared = 1 + n_classes * (n_classes - 1) // 2
        text = (
            f"cpbc with H = 1 ({n_bits} bits, {n_classes} classes): sub-codes of different classes collide, "
            f"{shared} codes belong to more than one class; H >= 3 ({3 * n_classes} bits) separates them, and "
            "the construction separated keeps centers further apart"
        )
    else:
        text = (
            f"cpbc with H = 2 ({n_bits} bits, {n_classes} classes) cannot separate the classes: sub-codes "
            f"of different classes come as near (2) as those of one; H >= 3 ({3 * n_classes} bits) separates, and "
            "the construction separated keeps centers further apart"
        )
    warnings.warn(text, UserWarning, stacklevel=4)
