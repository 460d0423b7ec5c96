"""Centers as far apart as they are known to go: from known codes, and by search where these miss the bound.

Hashing by classes needs as many words as classes, their least distance as large as possible; that is what coding
theory calls a code, and its tables of the best known ones are mostly made by a few constructions
(:mod:`.blocks`, :mod:`.planner`). What they leave to the upper bounds (:mod:`.bounds`) is searched (:mod:`.search`),
from the bound downwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import dshc_fast

from . import linear, search
from .balls import balls, is_whole
from .book import Codebook
from .bounds import distance_bound
from .planner import plan

__all__ = ["DEFAULT_STEPS", "Centers", "separated", "separated_centers"]

DEFAULT_STEPS = 2000
_MAX_CIRCULANT_BITS = 256


@dataclass(frozen=True)
class Centers:
    """``bits`` bool ``(C, n_bits)``, at least ``distance`` apart (None for one word), made by ``origin``."""

    bits: np.ndarray
    distance: int | None
    origin: str


def separated_centers(n_words: int, n_bits: int, *, seed: int = 0, steps: int = DEFAULT_STEPS) -> Centers:
    """``n_words`` words of ``n_bits`` bits with a large least distance; the same for the same arguments.

    ``steps`` bounds each search. Up to 1024 words there is one for every distance between that of the known codes and
    the upper bound, of which 0 steps leave the greedy start; up to 65,536 words and 256 bits there is a single one.

    Raises ``ValueError`` where there are not that many words.
    """
    if n_words == 1:
        return Centers(np.zeros((1, n_bits), dtype=bool), None, "one center")
    bound, _ = distance_bound(n_words, n_bits)
    known = plan(n_words, n_bits)
    for distance in range(bound, known.distance, -1):
        found = _searched(n_words, n_bits, distance, seed, steps)
        if found is not None:
            return found
    k = (n_words - 1).bit_length()
    if (
        search.MAX_DIMENSION < k <= search.MAX_CIRCULANT
        and known.distance < bound
        and n_bits <= _MAX_CIRCULANT_BITS
    ):
        better = search.circulant_code(n_bits, k, known.distance, seed=seed, steps=steps)
        if better is not None:
            name = f"circulant code [{n_bits}, {k}, {better[1]}] by search"
            return Centers(linear.words(better[0], n_words), better[1], name)
    return Centers(known.words(n_words), known.distance, known.name)


def _searched(n_words: int, n_bits: int, distance: int, seed: int, steps: int) -> Centers | None:
    k = (n_words - 1).bit_length()
    # Griesmer's bound: a linear code [n, k, d] has n >= the sum of d / 2^i, each rounded up, i < k.
    if k <= search.MAX_DIMENSION and sum(-(-distance // 2**i) for i in range(k)) <= n_bits:
        generator = search.linear_code(n_bits, k, distance, seed=seed, steps=steps)
        if generator is not None:
            name = f"linear code [{n_bits}, {k}, {distance}] by search"
            return Centers(linear.words(generator, n_words), distance, name)
    return None


def separated(
    n_classes: int,
    n_bits: int,
    *,
    seed: int,
    radius: int,
    sub_codes: int | Sequence[int] | None,
    search_steps: int,
    lengths: Sequence[int] = (),
) -> Codebook:
    """See :func:`dshc.codebooks.build`."""
    if n_classes > 2**n_bits:
        least = (n_classes - 1).bit_length()
        raise ValueError(
            f"n_bits must be at least {least} for {n_classes} classes, one code each, got {n_bits}"
        )
    if lengths:
        from .nested import nested_centers  # which stands on this module

        nested = nested_centers(n_classes, (*lengths, n_bits), seed=seed)
        centers = Centers(nested.bits, nested.distances[-1], f"{nested.origin}, nested")
    else:
        centers = separated_centers(n_classes, n_bits, seed=seed, steps=search_steps)
    packed = dshc_fast.pack_codes(centers.bits)
    codes, offsets = balls(packed, n_bits, radius, sub_codes)
    book = Codebook(
        "separated",
        n_bits,
        codes,
        offsets,
        packed,
        seed=seed,
        radius=radius,
        search_steps=search_steps,
        origin=centers.origin,
    )
    if centers.distance is not None:
        if book.center_distance < centers.distance:
            raise AssertionError(f"{centers.origin}: distance {book.center_distance}, not {centers.distance}")
        if book.center_distance <= 4 * radius and is_whole(n_bits, radius, sub_codes):
            _warn(book, radius)
    return book


def _warn(book: Codebook, radius: int) -> None:
    apart = book.center_distance - 2 * radius
    how = f"come as near ({apart}) as those of one ({2 * radius})" if apart > 0 else "collide"
    warnings.warn(
        f"separated with {book.n_bits} bits keeps {book.n_classes} centers {book.center_distance} apart, so that "
        f"sub-codes of different classes at radius {radius} {how}; pass more bits for {4 * radius + 1} apart, or "
        "a smaller radius",
        UserWarning,
        stacklevel=4,
    )
