"""Exact distances within and between classes of codes, without ever holding all pairs.

Sums and means need no pair at all: a bit that is 1 in n_1 of n codes adds 2 n_1 (n - n_1) to the sum of
Hamming distances over ordered pairs. Smallest distances are searched class pair by class pair; the triangle
inequality over the centers, d(a, b) >= d(center_a, center_b) - radius_a - radius_b, ends the search where no
pair left can be nearer. For full balls around centers that is after one pair, however large the book; where it ends
nothing, each code's nearest ones are searched instead.

``codes`` is everywhere ``uint8 (n, bytes)``, packed as `dshc_fast` packs; class c owns rows
``offsets[c]:offsets[c + 1]``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import dshc_fast

__all__ = ["far_apart", "owners", "smallest", "smallest_between", "smallest_within", "total_distances"]

_CHUNK = 1 << 22
"""Elements of an intermediate array."""
_MAX_LOOKS = 1 << 13
"""Class pairs looked at before the triangle inequality is given up for a search over all codes."""


def total_distances(codes: np.ndarray, offsets: np.ndarray, n_bits: int) -> tuple[int, int]:
    """The sums of Hamming distances over all ordered pairs of codes of one class, and of different classes; exact,
    one pass over the bits.
    """
    ones, within = np.zeros(n_bits, dtype=np.int64), 0
    rows = max(1, _CHUNK // n_bits)
    start = 0
    while start < len(offsets) - 1:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + rows, side="right")) - 1)
        of_class = np.zeros((stop - start, n_bits), dtype=np.int64)
        for first in range(
            offsets[start], offsets[stop], rows
        ):  # one part, unless a class is longer than that
            last = min(first + rows, offsets[stop])
            bits = np.unpackbits(codes[first:last], axis=1, count=n_bits, bitorder="little")
            starts = np.maximum(offsets[start:stop] - first, 0)
            of_class += np.add.reduceat(bits, starts, axis=0, dtype=np.int64)
        sizes = np.diff(offsets[start : stop + 1])[:, None]
        within += int((2 * of_class * (sizes - of_class)).sum())
        ones += of_class.sum(axis=0)
        start = stop
    total = sum(2 * int(n_1) * (len(codes) - int(n_1)) for n_1 in ones)
    return within, total - within


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


def smallest(codes: np.ndarray) -> int | None:
    """The smallest distance between two of the codes; None for a single one."""
    if len(codes) < 2:
        return None
    # A code is its own nearest, or an equal one stands in its place: the second is the nearest other.
    return int(dshc_fast.hamming_topk(codes, codes, k=2).distances[:, 1].min())


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
    nearest = dshc_fast.hamming_topk(centers, centers, k=2).distances[:, 1]
    least = nearest - radii - radii.max()
    best, looked = None, 0
    for c in np.argsort(least, kind="stable"):
        if best is not None and least[c] >= best:
            return best
        bounds = dshc_fast.hamming_distance(centers[c : c + 1], centers)[0] - radii[c] - radii
        bounds[c] = np.iinfo(bounds.dtype).max
        candidates = np.flatnonzero(bounds < (bounds[c] if best is None else best))
        for other in candidates[np.argsort(bounds[candidates], kind="stable")]:
            if best is not None and bounds[other] >= best:
                break
            if looked >= _MAX_LOOKS:
                return _nearest_foreign(codes, offsets, best)
            looked += 1
            for chunk in _chunks(owned[c], len(owned[other])):
                apart = int(dshc_fast.hamming_distance(chunk, owned[other]).min())
                best = apart if best is None else min(best, apart)
            if best == 1:  # 0 is excluded: no code is shared
                return best
    return best


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


def _nearest_foreign(codes: np.ndarray, offsets: np.ndarray, best: int) -> int:
    """The same by search: among the codes nearest to one, as many as a class has and one more, one is of another
    class. ``best`` is a distance between some two classes.
    """
    sizes = np.diff(offsets)
    class_of = np.repeat(np.arange(len(sizes)), sizes)
    database = dshc_fast.HammingDatabase(codes)
    for rows in _chunks(np.arange(len(codes)), int(sizes.max()) + 1):
        found = dshc_fast.hamming_topk(codes[rows], database, k=int(sizes.max()) + 1)
        foreign = class_of[found.indices] != class_of[rows][:, None]
        best = min(best, int(found.distances[foreign].min()))
        if best == 1:
            break
    return best


def _chunks(codes: np.ndarray, n_others: int) -> Iterator[np.ndarray]:
    rows = max(1, _CHUNK // max(1, n_others))
    for start in range(0, len(codes), rows):
        yield codes[start : start + rows]
