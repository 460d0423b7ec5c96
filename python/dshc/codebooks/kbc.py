"""KBC, the paper's construction by k-means over all codes, for short codes only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import dshc_fast

from .balls import class_sizes, patterns
from .book import Codebook

__all__ = ["MAX_KBC_BITS", "kbc"]

MAX_KBC_BITS = 20
DRAWS = 1000
_LLOYD_STEPS = 100


def kbc(
    n_classes: int,
    n_bits: int,
    *,
    seed: int,
    threshold: int,
    radius: int,
    sub_codes: int | Sequence[int] | None,
) -> Codebook:
    """See :func:`dshc.codebooks.build`."""
    if n_bits > MAX_KBC_BITS:
        raise ValueError(
            f"n_bits must be between 1 and {MAX_KBC_BITS} for kbc (it goes through all 2^n_bits codes), got {n_bits}"
        )
    if n_classes > 2**n_bits:
        least = (n_classes - 1).bit_length()
        raise ValueError(
            f"n_bits must be at least {least} for {n_classes} classes, one code each, got {n_bits}"
        )
    sizes = class_sizes(sub_codes, n_classes)
    flips = _as_values(patterns(n_bits, radius))
    rng = np.random.PCG64(seed)
    for draw_number in range(1, DRAWS + 1):
        centers = draw(n_classes, n_bits, rng)
        kept = filtered(centers, flips, n_bits, threshold, sizes)
        if all(len(own) for own in kept):
            offsets = np.concatenate([[0], np.cumsum([len(own) for own in kept])]).astype(np.int64)
            codes = _as_bytes(np.concatenate(kept), n_bits)
            origin = f"k-means over all {2**n_bits} codes, draw {draw_number}"
            packed = _as_bytes(centers, n_bits)
            return Codebook(
                "kbc",
                n_bits,
                codes,
                offsets,
                packed,
                seed=seed,
                threshold=threshold,
                radius=radius,
                origin=origin,
            )
    raise ValueError(
        f"n_bits must leave every class a code of kbc, got a class without in each of {DRAWS} draws ({n_classes} "
        f"classes, {n_bits} bits, threshold {threshold}); pass more bits or a lower threshold"
    )


def draw(n_classes: int, n_bits: int, rng: np.random.PCG64) -> np.ndarray:
    """One k-means: the rounded centroids as code values ``(C,)``, in which bit j is worth 2^j."""
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
    return centers


def filtered(
    centers: np.ndarray, flips: np.ndarray, n_bits: int, threshold: int, sizes: Sequence[int | None]
) -> list[np.ndarray]:
    """The sorted code values each class keeps: of its center's ball those at least ``threshold`` from all other
    centers, the nearest so many of them. A class may keep none; equal centers drop each other's codes.
    """
    packed = _as_bytes(centers, n_bits)
    kept = []
    for c, (center, size) in enumerate(zip(centers, sizes, strict=True)):
        ball = center ^ flips
        apart = dshc_fast.hamming_distance(_as_bytes(ball, n_bits), packed)
        apart[:, c] = np.iinfo(apart.dtype).max
        kept.append(np.sort(ball[(apart >= threshold).all(axis=1)][:size]))
    return kept


def _as_bytes(values: np.ndarray, n_bits: int) -> np.ndarray:
    """Code values as packed codes."""
    as_bytes = np.ascontiguousarray(values, dtype="<i8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(as_bytes[:, : -(-n_bits // 8)])


def _as_values(packed: np.ndarray) -> np.ndarray:
    """Packed codes of up to 63 bits as code values."""
    padded = np.zeros((len(packed), 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.view("<i8").ravel()
