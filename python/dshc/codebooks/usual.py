"""The centers of other methods: rows of a Hadamard matrix, words drawn at random.

What :mod:`.separated` makes is further apart, or as far; these are what published figures stand on.

* :func:`hadamard_centers`: Yuan et al., *Central Similarity Quantization*, CVPR 2020. Rows of a Hadamard matrix, then
  their complements; where that is not enough, random words with as many ones as zeros.
* :func:`random_centers`: fair coins, as in Fan et al., *Deep Polarized Network*, IJCAI 2020, and Hoe et al., *One Loss
  for All*, NeurIPS 2021.
* :func:`rejected_centers`: random words of which those that come too near are rejected, the better choice of the
  released code of both papers, and the one of Minh et al., *RelaHash*, IEEE Access 2023.

Words are rows of bool arrays, the same for the same arguments everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import comb

import numpy as np

import dshc_fast

from . import nonlinear, search

__all__ = ["hadamard_centers", "random_centers", "rejected_centers"]

_CHUNK = 1024
_BALANCED_TRIES, _TRIES = 1000, 10_000
_FIRST_SHARE = 61  # percent of the bits in which two words differ at first


def hadamard_centers(n_words: int, n_bits: int, *, seed: int = 0) -> np.ndarray:
    """The first rows of a Hadamard matrix H of this order, then those of -H; else balanced random words.

    For a power of two H is Sylvester's, as in the paper, whose first column is constant: up to ``n_bits`` words are
    equal in their first bit. Other orders, which the paper leaves to chance, come from Paley's constructions. Any two
    rows differ in half of the bits or in all of them.

    Beyond 2 ``n_bits`` words, or where no matrix is known here, words have n_bits // 2 ones and are drawn by ``seed``.
    One that is less than a third of the bits from another is rejected; after 1,000 rejections the distance is lowered
    by 1. (The paper draws whole sets until the least distance of one is between a quarter and a third of the bits.)

    Raises ``ValueError`` where there are not that many balanced words.
    """
    power_of_two = n_bits & (n_bits - 1) == 0 and n_bits <= 1 << 16
    if n_words <= 2 * n_bits and (power_of_two or nonlinear.has_hadamard(n_bits)):
        if power_of_two:
            minus = search.parities(np.arange(n_bits)) == 1
        else:
            minus = nonlinear.hadamard(n_bits) < 0
        return np.concatenate([~minus, minus])[:n_words]
    n_ones = n_bits // 2
    if n_words > comb(n_bits, n_ones):
        raise ValueError(
            f"n_words must be at most {comb(n_bits, n_ones)}, all words of {n_bits} bits with {n_ones} ones, got "
            f"{n_words}"
        )
    rng = np.random.PCG64(seed)

    def draw() -> np.ndarray:
        order = np.argsort(rng.random_raw(_CHUNK * n_bits).reshape(_CHUNK, n_bits), axis=1, kind="stable")
        return order < n_ones  # a random permutation of 0 to n_bits - 1

    return _accepted(draw, n_words, n_bits, range(max(n_bits // 3, 1), 0, -1), _BALANCED_TRIES)


def random_centers(n_words: int, n_bits: int, *, seed: int = 0) -> np.ndarray:
    """Fair coins, drawn by ``seed``; a word that is there already is drawn again.

    Raises ``ValueError`` where there are not that many words.
    """
    return _accepted(_coins(n_bits, seed), _checked(n_words, n_bits), n_bits, (1,), _TRIES)


def rejected_centers(n_words: int, n_bits: int, *, seed: int = 0) -> np.ndarray:
    """Fair coins, drawn by ``seed``; a word is rejected that comes too near to one before.

    Two words differ in 61 % of the bits or more at first; after 10,000 rejections the share is lowered by 1 %, down to
    a single bit. The released codes do the same, and give up at 20 %.

    Raises ``ValueError`` where there are not that many words.
    """
    distances = [max(-(-percent * n_bits // 100), 1) for percent in range(_FIRST_SHARE, -1, -1)]
    return _accepted(_coins(n_bits, seed), _checked(n_words, n_bits), n_bits, distances, _TRIES)


def _checked(n_words: int, n_bits: int) -> int:
    if n_words > 2**n_bits:
        raise ValueError(f"n_words must be at most {2**n_bits}, all words of {n_bits} bits, got {n_words}")
    return n_words


def _coins(n_bits: int, seed: int) -> Callable[[], np.ndarray]:
    rng = np.random.PCG64(seed)
    width = -(-n_bits // 64)

    def draw() -> np.ndarray:
        raw = rng.random_raw(_CHUNK * width).astype("<u8").view(np.uint8).reshape(_CHUNK, 8 * width)
        return np.unpackbits(raw, axis=1, count=n_bits, bitorder="little").astype(bool)

    return draw


def _accepted(
    draw: Callable[[], np.ndarray], n_words: int, n_bits: int, distances: Iterable[int], tries: int
) -> np.ndarray:
    """The first words that keep a distance from those before. After so many rejections the next distance counts; the
    last one must be possible, for it is tried until it is met.
    """
    falling = iter(distances)
    distance, lower = next(falling), next(falling, None)
    chosen = np.zeros((0, n_bits), dtype=bool)
    rejected = 0
    while len(chosen) < n_words:
        words = draw()
        packed = dshc_fast.pack_codes(words)
        nearest = np.full(len(words), n_bits + 1)
        if len(chosen):
            nearest = dshc_fast.hamming_distance(packed, dshc_fast.pack_codes(chosen)).min(axis=1)
        start, taken = 0, []
        while start < len(words) and len(chosen) + len(taken) < n_words:
            far = np.flatnonzero(nearest[start:] >= distance)
            skipped = int(far[0]) if len(far) else len(words) - start
            if lower is not None and rejected + skipped >= tries:
                start += tries - rejected
                rejected, distance, lower = 0, lower, next(falling, None)
                continue
            rejected += skipped
            start += skipped
            if start < len(words):
                taken.append(start)
                own = dshc_fast.hamming_distance(packed, packed[start : start + 1])[:, 0]
                nearest = np.minimum(nearest, own)
                start += 1
        chosen = np.concatenate([chosen, words[taken]])
    return chosen
