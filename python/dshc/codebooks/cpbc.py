"""CPBC, the paper's construction: a block of bits per class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

import dshc_fast

from .balls import balls
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
    if n_classes > 1 and per_class < 3 and radius == 1 and sub_codes is None:
        _warn(n_classes, n_bits, per_class)
    used = n_classes * per_class
    centers = np.zeros((n_classes, n_bits), dtype=bool)
    centers[:, :used] = np.repeat(np.eye(n_classes, dtype=bool), per_class, axis=1)
    packed = dshc_fast.pack_codes(centers)
    # Bits beyond the blocks are the same everywhere and are never flipped.
    codes, offsets = balls(packed, n_bits, radius, sub_codes, flipped=used)
    origin = f"blocks of {per_class} bit" + "s" * (per_class > 1)
    return Codebook("cpbc", n_bits, codes, offsets, packed, radius=radius, origin=origin)


def _warn(n_classes: int, n_bits: int, per_class: int) -> None:
    if per_class == 1:
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
