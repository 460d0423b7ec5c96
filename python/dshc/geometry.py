"""Exact distances within and between classes of codes, without ever holding all pairs.

Sums and means need no pair at all: a bit that is 1 in n_1 of n codes adds 2 n_1 (n - n_1) to the sum of
Hamming distances over ordered pairs. Smallest distances are searched class pair by class pair; the triangle
inequality over the centers, d(a, b) >= d(center_a, center_b) - radius_a - radius_b, ends the search where no
pair left can be nearer. For codes laid around centers that is after a handful of class pairs, however large
the book.

``codes`` is everywhere ``uint8 (n, bytes)``, packed as `dshc_fast` packs; class c owns rows
``offsets[c]:offsets[c + 1]``.
"""

from __future__ import annotations

import numpy as np

import dshc_fast

__all__ = ["far_apart", "owners", "smallest_between", "smallest_within", "total_distance"]

_CHUNK = 1 << 22
"""Elements of an intermediate array."""


def total_distance(codes: np.ndarray, n_bits: int) -> int:
    """The sum of Hamming distances over all ordered pairs of ``codes``; exact, one pass over the bits."""
    ones = np.zeros(n_bits, dtype=np.int64)
    rows = max(1, _CHUNK // n_bits)
    for start in range(0, len(codes), rows):
        bits = np.unpackbits(codes[start : start + rows], axis=1, count=n_bits, bitorder="little")
        ones += bits.sum(axis=0, dtype=np.int64)
    return sum(2 * int(n_1) * (len(codes) - int(n_1)) for n_1 in ones)


def owners(codes: np.ndarray, offsets: np.ndarray) -> tuple[int, int, bool]:
    """Number of distinct codes, of those of several classes, and whether a class holds a code twice."""
    if codes.shape[1] <= 8:
        padded = np.zeros((len(codes), 8), dtype=np.uint8)
        padded[:, : codes.shape[1]] = codes
        keys = padded.view("<u8").ravel()
    else:
        keys = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1]))).ravel()
    distinct, code_of = np.unique(keys, return_inverse=True)
    n_classes = len(offsets) - 1
    class_of = np.repeat(np.arange(n_classes), np.diff(offsets))
    owned = np.unique(code_of.ravel().astype(np.int64) * n_classes + class_of)
    n_owners = np.bincount(owned // n_classes, minlength=len(distinct))
    return len(distinct), int((n_owners > 1).sum()), len(owned) < len(codes)


def smallest_within(codes: np.ndarray, offsets: np.ndarray, repeated: bool) -> int | None:
    """The smallest distance between two codes of one class; None where no class has two.

    ``repeated`` says that some class holds a code twice (see :func:`owners`), which makes it 0.
    """
    if repeated:
        return 0
    best = None
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        own = codes[start:stop]
        for chunk in _chunks(own, len(own)):
            distances = dshc_fast.hamming_distance(chunk, own)
            others = distances[distances > 0]  # no code comes twice, so 0 is a code's distance to itself
            if others.size and (best is None or others.min() < best):
                best = int(others.min())
            if best == 1:
                return best
    return best


def smallest_between(codes: np.ndarray, offsets: np.ndarray, centers: np.ndarray, shared: bool) -> int | None:
    """The smallest distance between codes of different classes; None for a single class.

    ``shared`` says that some code is owned by two classes (see :func:`owners`), which makes it 0.
    """
    if len(centers) < 2:
        return None
    if shared:
        return 0
    owned = [codes[start:stop] for start, stop in zip(offsets[:-1], offsets[1:], strict=True)]
    radii = np.array(
        [int(dshc_fast.hamming_distance(centers[c : c + 1], own).max()) for c, own in enumerate(owned)]
    )
    first, second = np.triu_indices(len(centers), k=1)
    apart = dshc_fast.hamming_distance(centers, centers)[first, second]
    bounds = apart - radii[first] - radii[second]
    best = None
    for pair in np.argsort(bounds, kind="stable"):
        if best is not None and bounds[pair] >= best:
            break
        own, other = owned[first[pair]], owned[second[pair]]
        for chunk in _chunks(own, len(other)):
            nearest = int(dshc_fast.hamming_distance(chunk, other).min())
            best = nearest if best is None else min(best, nearest)
        if best == 1:  # 0 is excluded: no code is shared
            break
    return best


def _chunks(codes: np.ndarray, n_others: int):
    rows = max(1, _CHUNK // max(1, n_others))
    for start in range(0, len(codes), rows):
        yield codes[start : start + rows]


def far_apart(codes: np.ndarray, n_kept: int) -> np.ndarray:
    """Rows of at most ``n_kept`` of the codes uint8 ``(n, bytes)`` that lie far apart, int64, rising.

    Greedy: the code of the largest sum of distances to all, then always the one whose least distance to those
    chosen is largest; at equal ones the first. O(n * n_kept) distances beside the n^2 of the first sum.
    """
    if n_kept >= len(codes):
        return np.arange(len(codes))
    sums = np.concatenate(
        [dshc_fast.hamming_distance(part, codes).sum(axis=1) for part in _chunks(codes, len(codes))]
    )
    chosen = [int(sums.argmax())]
    nearest = dshc_fast.hamming_distance(codes[chosen], codes)[0].astype(np.int64)
    while len(chosen) < n_kept:
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, dshc_fast.hamming_distance(codes[chosen[-1:]], codes)[0])
    return np.sort(np.array(chosen))
