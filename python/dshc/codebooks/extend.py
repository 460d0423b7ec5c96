"""Classes added to a codebook whose codes are in use: what was coded before stays comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import dshc_fast

from . import geometry
from .balls import balls
from .book import Codebook

__all__ = ["extended"]

_CANDIDATES = 1 << 14
_EVERY_WORD = 14  # bits up to which all words are candidates


def extended(
    book: Codebook,
    places: Sequence[int | None],
    *,
    seed: int = 0,
    sub_codes: int | None = None,
    per_class: int | None = None,
) -> Codebook:
    """A codebook of ``len(places)`` classes: class c is class ``places[c]`` of ``book``, or new where that is None.

    Classes of the book keep their codes. A new class gets the center farthest from all others (by the least distance,
    at equal ones the first) among all words of up to 14 bits, else among 2^14 drawn by ``seed``, and sub-codes within
    the book's radius: at most ``sub_codes`` of them, as of :func:`dshc.codebooks.build`, of which ``per_class`` are
    used, as of :meth:`Codebook.thinned`. Greedy, so that a codebook built at once for all classes may be wider.

    Raises ``ValueError`` or ``TypeError`` where there is no class, one comes twice or is not the book's, or no word is
    left that is no center yet.

    >>> from dshc.codebooks import build
    >>> more = extended(build("separated", 4, 10), [0, None, 1, 2, 3])
    >>> more.n_classes, more.center_distance >= 3
    (5, True)
    """
    if not len(places):
        raise ValueError("places must name at least one class, got none")
    if any(place is not None and not isinstance(place, (int, np.integer)) for place in places):
        raise TypeError(f"places must be classes of the book or None, got {list(places)}")
    kept = [place for place in places if place is not None]
    if len(set(kept)) != len(kept) or any(not 0 <= place < book.n_classes for place in kept):
        raise ValueError(
            f"places must name classes 0 to {book.n_classes - 1} of the book once each, got {list(places)}"
        )
    centers = _new_centers(book, len(places) - len(kept), np.random.default_rng(seed))
    codes, sizes, rows, new = [], [], [], iter(centers)
    for place in places:
        if place is None:
            center = next(new)
            own = balls(center[None], book.n_bits, 1 if book.radius is None else book.radius, sub_codes)[0]
            own = own if per_class is None else own[geometry.far_apart(own, per_class)]
        else:
            center = book.centers[place]
            own = book.codes[book.class_offsets[place] : book.class_offsets[place + 1]]
        rows.append(center)
        codes.append(own)
        sizes.append(len(own))
    return replace(
        book,
        codes=np.concatenate(codes),
        class_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        centers=np.stack(rows),
        origin=f"{book.origin or book.construction}, {len(centers)} classes added",
    )


def _new_centers(book: Codebook, n_new: int, rng: np.random.Generator) -> np.ndarray:
    """``n_new`` centers, each as far as can be from those of the book and the ones before, packed."""
    if book.n_bits <= _EVERY_WORD:
        numbers = np.arange(1 << book.n_bits)
        words = (numbers[:, None] >> np.arange(book.n_bits)) & 1
    else:
        words = rng.integers(0, 2, (_CANDIDATES, book.n_bits))
    candidates = dshc_fast.pack_codes(words.astype(bool))
    nearest = np.full(len(candidates), book.n_bits + 1)
    for start in range(0, book.n_classes, 256):
        part = dshc_fast.hamming_distance(candidates, book.centers[start : start + 256])
        nearest = np.minimum(nearest, part.min(axis=1))
    chosen = []
    for number in range(n_new):
        best = int(nearest.argmax())
        if nearest[best] == 0:
            raise ValueError(
                f"{book.n_bits} bits must leave a word for each of {n_new} new classes, got none after {number}"
            )
        chosen.append(candidates[best])
        own = dshc_fast.hamming_distance(candidates, candidates[best][None])[:, 0]
        nearest = np.minimum(nearest, own)
    return np.stack(chosen) if chosen else np.zeros((0, book.centers.shape[1]), np.uint8)
