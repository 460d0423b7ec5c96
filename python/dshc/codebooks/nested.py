"""Centers whose first bits are far apart too: one table of codes for several lengths.

A network that learns several lengths at once uses its first l bits as the code of length l, so the first l bits of the
centers have to be a code of their own. :mod:`.separated` looks at one length alone: its words may be equal in their
first half.

A table of codes is a row of columns. Their order does not change how far words are apart in the end, but it decides
how far they are after l of them. One of the lengths, the anchor, gets a code as good as can be had; each shorter one
takes some of its columns, each longer one adds to them. All are chosen by the search of :mod:`.search` (Glover's tabu
search over single columns). Every length is the anchor in turn, which matters: 50 words of 32 bits are 16 apart in the
first-order Reed-Muller code alone. 16 of its columns keep them 6 apart, the most there is, but most codes of 16 bits
that reach 6 have no place in it.

Where columns come from: up to 10 words, all that there are. Beyond, those of linear codes, by which a pair is parted or
not together with all pairs of the same sum; up to 32 words, those of the separated codes beside them. Beyond 1024
words separated codes stand side by side, whose distances add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

import dshc_fast

from . import geometry, search
from .separated import separated_centers
from .whole import whole

__all__ = ["NESTED_STEPS", "NestedCenters", "nested_centers"]

NESTED_STEPS = 300
_DRAWS = 2
"""Tables for each anchor."""
_TARGETS = 4
"""Distances tried for a length, from that of a separated code downwards."""
_ALL_COLUMNS = 10
"""Most words for which every column is tried: 2^9 of them."""
_PAIRS = 32
"""Most words whose pairs are looked at one by one."""


@dataclass(frozen=True)
class NestedCenters:
    """``bits`` bool ``(C, lengths[-1])``: the first ``lengths[i]`` bits of two words are ``distances[i]`` apart or more
    (None for one word). ``origin`` says how they were made.
    """

    bits: np.ndarray
    lengths: tuple[int, ...]
    distances: tuple[int | None, ...]
    origin: str


def nested_centers(
    n_words: int, lengths: Sequence[int], *, seed: int = 0, steps: int = NESTED_STEPS
) -> NestedCenters:
    """``n_words`` words that are far apart in their first ``lengths[i]`` bits, for every i; the same for the same
    arguments, everywhere.

    Of all tables that are made, the one with the largest sum of shares is returned. A share is the least distance at
    one length over that of :func:`.separated.separated_centers` for this length alone. ``steps`` bounds every search.

    Raises ``ValueError`` where lengths do not rise or the shortest has fewer words.

    >>> nested_centers(10, (16, 32, 64)).distances
    (8, 17, 35)
    """
    n_words = whole("n_words", n_words, 1)
    if not isinstance(lengths, (Sequence, np.ndarray)):
        raise TypeError(f"lengths must be whole numbers, got {lengths!r}")
    lengths = tuple(whole("lengths", length) for length in lengths)
    if not lengths or lengths[0] < 1 or list(lengths) != sorted(set(lengths)):
        raise ValueError(f"lengths must be at least 1 and rise, got {lengths}")
    if n_words > 2 ** lengths[0]:
        raise ValueError(
            f"n_words must be at most {2 ** lengths[0]}, all words of {lengths[0]} bits, got {n_words}"
        )
    alone = [separated_centers(n_words, length, seed=seed) for length in lengths]
    if n_words == 1 or len(lengths) == 1:
        distances = tuple(_distance(alone[-1].bits[:, :length]) for length in lengths)
        return NestedCenters(alone[-1].bits, lengths, distances, alone[-1].origin)
    wanted = [int(centers.distance or 0) for centers in alone]
    best, best_share = None, -1.0
    for found in _tables(n_words, lengths, wanted, [centers.bits for centers in alone], seed, steps):
        share = sum(got / most for got, most in zip(found.distances, wanted, strict=True))
        if share > best_share:
            best, best_share = found, share
        if best_share >= len(lengths):
            break
    assert best is not None  # codes side by side are always there
    return best


def _tables(
    n_words: int, lengths: tuple[int, ...], wanted: list[int], alone: list[np.ndarray], seed: int, steps: int
) -> Iterator[NestedCenters]:
    """Every table that is made, the quickest first."""

    def table(bits: np.ndarray, origin: str) -> NestedCenters:
        return NestedCenters(bits, lengths, tuple(_distance(bits[:, :length]) for length in lengths), origin)

    yield table(alone[-1], "separated code of the longest")
    parts = [alone[0]]
    for shorter, longer in zip(lengths[:-1], lengths[1:], strict=True):
        added = longer - shorter
        # Words of the added bits may be equal: those before them differ.
        fits = n_words <= 2**added
        parts.append(
            separated_centers(n_words, added, seed=seed).bits
            if fits
            else np.resize(alone[0], (n_words, added))
        )
    yield table(np.concatenate(parts, axis=1), "separated codes side by side")
    for number, pool in enumerate(_pools(n_words, alone)):
        for draw in range(_DRAWS):
            for anchor in reversed(range(len(lengths))):
                rng = np.random.PCG64([seed, number, draw, anchor])
                known = pool.places(alone[anchor]) if draw == 0 else None
                columns = _order(pool, lengths, wanted, anchor, known, rng, steps)
                yield table(pool.columns[:, columns], f"{pool.name} by search around {lengths[anchor]} bits")


@dataclass(frozen=True)
class _Pool:
    """Columns to choose from, bool ``(n_words, n)``, and which of them part which pairs, 0 or 1, ``(n_pairs, n)``."""

    name: str
    columns: np.ndarray
    parts: np.ndarray

    def places(self, bits: np.ndarray) -> np.ndarray | None:
        """Where the columns of a code, or their complements, are in the pool; None where one is not."""
        own = {column.tobytes(): place for place, column in enumerate(self.columns.T.copy())}
        found = [own.get((column ^ column[0]).tobytes()) for column in bits.T]
        return None if None in found else np.array(found)


def _pools(n_words: int, alone: list[np.ndarray]) -> Iterator[_Pool]:
    k = (n_words - 1).bit_length()
    if n_words <= _ALL_COLUMNS:
        values = (
            np.arange(1, 2 ** (n_words - 1)) * 2
        )  # the first word is 0, for a column's complement is no better
        yield _pool_of_pairs("columns", values >> np.arange(n_words)[:, None] & 1 == 1)
        return
    if k > search.MAX_DIMENSION:
        return
    values = np.arange(1, 2**k)
    linear = (search.parities(np.arange(2**k))[:n_words, 1:] == 1).copy()
    # Two words of a linear code differ where the sum of their numbers has a 1.
    yield _Pool("linear code", linear, search.parities(values).astype(np.float64))
    if n_words <= _PAIRS:
        columns = np.concatenate([linear, *(bits ^ bits[:1] for bits in alone)], axis=1)
        columns = np.unique(columns[:, columns.any(axis=0)], axis=1)
        yield _pool_of_pairs("columns", columns)


def _pool_of_pairs(name: str, columns: np.ndarray) -> _Pool:
    first, second = np.array(list(combinations(range(len(columns)), 2))).T
    return _Pool(name, columns, (columns[first] != columns[second]).astype(np.float64))


def _order(
    pool: _Pool,
    lengths: tuple[int, ...],
    wanted: list[int],
    anchor: int,
    known: np.ndarray | None,
    rng: np.random.PCG64,
    steps: int,
) -> np.ndarray:
    """Columns of the pool in an order, int64 ``(lengths[-1],)``, the anchor's code being the best of all."""
    nothing = np.zeros(len(pool.parts))
    columns = known
    if columns is None:
        columns = _chosen(pool, nothing, lengths[anchor], wanted[anchor], rng, steps)
    for place in reversed(range(anchor)):
        # Shorter and shorter: those taken of the columns so far come first, the others stay behind them.
        length = lengths[place]
        supply = np.bincount(columns[: lengths[place + 1]], minlength=pool.parts.shape[1])
        taken = _chosen(pool, nothing, length, wanted[place], rng, steps, supply)
        left = supply - np.bincount(taken, minlength=len(supply))
        columns = np.concatenate(
            [taken, np.repeat(np.arange(len(supply)), left), columns[lengths[place + 1] :]]
        )
    for place in range(anchor + 1, len(lengths)):
        weights = pool.parts[:, columns].sum(axis=1)
        added = lengths[place] - lengths[place - 1]
        columns = np.concatenate([columns, _chosen(pool, weights, added, wanted[place], rng, steps)])
    return columns


def _chosen(
    pool: _Pool,
    weights: np.ndarray,
    n: int,
    wanted: int,
    rng: np.random.PCG64,
    steps: int,
    supply: np.ndarray | None = None,
) -> np.ndarray:
    """``n`` columns that leave the lightest pair as heavy as can be, up to ``wanted``."""
    best, reached = np.zeros(n, dtype=np.int64), -1
    for distance in range(wanted, max(wanted - _TARGETS, 0), -1):
        if reached >= distance:
            break
        columns, least = search.columns_to_add(pool.parts, weights, n, distance, rng, steps, supply)
        if least > reached:
            best, reached = columns, least
    return best


def _distance(bits: np.ndarray) -> int | None:
    return geometry.smallest(dshc_fast.pack_codes(np.ascontiguousarray(bits)))
