"""The known codes of at least so many words: what the planner of `separated` sets side by side.

A block is a code by its parameters, made only when it is used. Linear codes and codes closed under complement or shift
are brought to the number of words that is wanted by shortening: the words that are 0 in one position, that position
deleted, are at least half as many at no smaller distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import linear, nonlinear

__all__ = ["Block", "catalogue", "linear_block"]

_MAX_LISTED = 1 << 16
"""Most words of a code that is not linear: all of them are made before it is shortened."""


@dataclass(frozen=True)
class Block:
    """A code of ``length`` bits with enough words, at least ``distance`` apart; ``make(count)`` gives the first ones,
    bool ``(count, length)``.
    """

    length: int
    distance: int
    name: str
    make: Callable[[int], np.ndarray]


def catalogue(n_words: int, longest: int) -> list[Block]:
    """The blocks of at least ``n_words`` words, up to a length, none of which another one makes superfluous.

    Sorted by length; a longer one has a greater distance.
    """
    best: dict[int, Block] = {}
    for block in _all_blocks(n_words, longest):
        known = best.get(block.length)
        if known is None or block.distance > known.distance:
            best[block.length] = block
    kept: list[Block] = []
    for length in sorted(best):
        if not kept or best[length].distance > kept[-1].distance:
            kept.append(best[length])
    return kept


def linear_block(
    make: Callable[[], np.ndarray], k: int, parameters: tuple[int, int, int], name: str
) -> Block:
    """A linear code [n, K, d], shortened to k dimensions."""
    n, dimension, distance = parameters
    cut = dimension - k
    label = f"{name} [{n}, {dimension}, {distance}]"
    if cut:
        label = f"{label} shortened to [{n - cut}, {k}, {distance}]"

    def words(count: int) -> np.ndarray:
        generator = make()
        return linear.words(linear.shortened(generator, cut) if cut else generator, count)

    return Block(n - cut, distance, label, words)


def _all_blocks(n_words: int, longest: int) -> Iterator[Block]:
    k = max(1, (n_words - 1).bit_length())
    if k <= longest:
        yield linear_block(lambda: np.eye(k, dtype=bool), k, (k, k, 1), "all words")
        yield linear_block(
            lambda: np.concatenate([np.eye(k, dtype=bool), np.ones((k, 1), dtype=bool)], axis=1),
            k,
            (k + 1, k, 2),
            "even words",
        )
    yield from _hadamard(n_words, longest)
    yield from _bch(k, longest)
    yield from _concatenated(k, longest)
    for p, distance in linear.QR_DISTANCES.items():
        if (p + 1) // 2 >= k:
            name = "Golay code" if p == 23 else "extended quadratic residue code"
            yield linear_block(lambda p=p: linear.extended_qr(p), k, (p + 1, (p + 1) // 2, distance), name)
    yield from _listed(n_words, "Best's code", 10, 40, 4, nonlinear.best_code)
    for m in (3, 5, 7):
        length, size = 2 ** (m + 1), 4 ** (m + 1)
        name = "Nordstrom-Robinson code" if m == 3 else "Kerdock code"
        distance = 2**m - 2 ** ((m - 1) // 2)
        yield from _listed(n_words, name, length, size, distance, lambda m=m: nonlinear.kerdock(m))


def _hadamard(n_words: int, longest: int) -> Iterator[Block]:
    for order in (1, 2, *range(4, longest + 3, 4)):
        if 2 * order < n_words or not nonlinear.has_hadamard(order):
            continue
        for deleted, size in ((0, 2 * order), (1, order), (2, order // 2)):
            if size >= n_words and 0 < order - deleted <= longest and order % 2 == 0:
                yield Block(
                    order - deleted,
                    order // 2,
                    f"Hadamard code ({order - deleted}, {size}, {order // 2})",
                    lambda count, order=order, deleted=deleted: nonlinear.hadamard_words(order, deleted)[
                        :count
                    ],
                )


def _bch(k: int, longest: int) -> Iterator[Block]:
    m = 3
    while 2**m - (2**m - 1 - k) <= longest and m <= 12:
        for dimension, distance, taken in linear.bch_chain(m):
            if dimension >= k and 2**m - (dimension - k) <= longest:
                name = "Reed-Muller code" if dimension == m + 1 else "extended BCH code"
                parameters = (2**m, dimension, distance)
                yield linear_block(
                    lambda m=m, taken=taken: linear.extended_bch(m, taken), k, parameters, name
                )
        m += 1


def _concatenated(k: int, longest: int) -> Iterator[Block]:
    for m in range(3, 9):
        dimension = -(-k // m)
        for inner, distance in ((_simplex(m), 2 ** (m - 1)), (_biorthogonal(m), 2 ** (m - 2))):
            length = inner.shape[1]
            for n_symbols in range(dimension + 1, min(2**m, (longest + m * dimension - k) // length) + 1):
                parameters = (n_symbols * length, m * dimension, (n_symbols - dimension + 1) * distance)
                name = f"Reed-Solomon code over GF({2**m}) in words of {length} bits"
                yield linear_block(
                    lambda m=m, dimension=dimension, n_symbols=n_symbols, inner=inner: linear.concatenated(
                        m, dimension, n_symbols, inner
                    ),
                    k,
                    parameters,
                    name,
                )


def _simplex(m: int) -> np.ndarray:
    """[2^m - 1, m, 2^(m - 1)]: every column but 0 once."""
    return (np.arange(1, 2**m) >> np.arange(m)[:, None] & 1).astype(bool)


def _biorthogonal(m: int) -> np.ndarray:
    """[2^(m - 1), m, 2^(m - 2)], the Reed-Muller code of first order: every column that ends with 1 once."""
    return (np.arange(2 ** (m - 1), 2**m) >> np.arange(m)[:, None] & 1).astype(bool)


def _listed(
    n_words: int, name: str, length: int, size: int, distance: int, make: Callable[[], np.ndarray]
) -> Iterator[Block]:
    """A code that is not linear, as it is and shortened as far as the words suffice."""
    if n_words > size:
        return
    cut = (size // n_words).bit_length() - 1
    label = f"{name} ({length}, {size}, {distance})"
    if cut:
        label = f"{label} shortened by {cut}"

    def words(count: int) -> np.ndarray:
        table = make()
        for _ in range(cut):
            table = table[table[:, 0] == (2 * table[:, 0].sum() > len(table))][:, 1:]
        return table[:count]

    yield Block(length - cut, distance, label, words)
