"""Linear codes by their generator matrices: extended BCH codes, extended quadratic residue codes, shortening.

A generator matrix is bool ``(k, n)``; its code is all sums of its rows modulo 2.

* :func:`extended_bch`: words (a_0 + sum over s of Tr(a_s x^s)), x over GF(2^m), s over representatives of the
  cyclotomic cosets modulo 2^m - 1. Leaving out the cosets of 1, ..., delta - 1 (up to sign) makes 1, ..., delta - 1
  consecutive powers zeros, so that the distance is at least delta, and delta + 1 with the parity bit at x = 0
  (MacWilliams & Sloane, chapters 7 and 9). The first steps of the chain are Reed-Muller codes of first order:
  2^m bits, m + 1 dimensions, distance 2^(m - 1); then [32, 11, 12], [64, 10, 28], [64, 16, 24], ...
* :func:`concatenated`: a Reed-Solomon code over GF(2^m), its symbols written as words of a binary code of m
  dimensions; distances multiply.
* :func:`extended_qr`: quadratic residue codes modulo a prime p = 1 or 7 mod 8 with a parity bit; p = 23 is the
  Golay code [24, 12, 8].
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = [
    "QR_DISTANCES",
    "bch_chain",
    "concatenated",
    "extended_bch",
    "extended_qr",
    "primitive",
    "reduced",
    "shortened",
    "words",
]

QR_DISTANCES = {17: 6, 23: 8, 31: 8, 41: 10, 47: 12}
"""Prime p -> distance of the extended quadratic residue code [p + 1, (p + 1) / 2] (MacWilliams & Sloane, ch. 16)."""


@cache
def primitive(m: int) -> int:
    """The least primitive polynomial of degree m over GF(2), bit i the coefficient of x^i."""
    for polynomial in range(2**m + 1, 2 ** (m + 1), 2):
        if len(set(_powers(m, polynomial))) == 2**m - 1:
            return polynomial
    raise AssertionError("there is one of every degree")


def _powers(m: int, polynomial: int) -> list[int]:
    """x^0, x^1, ..., x^(2^m - 2) modulo the polynomial; stops where they begin to repeat."""
    powers, value = [1], 2
    while value != 1 and len(powers) < 2**m - 1:
        powers.append(value)
        value <<= 1
        if value >> m:
            value ^= polynomial
    return powers


@cache
def field(m: int) -> np.ndarray:
    """The powers 0 to 2^m - 2 of a primitive element of GF(2^m), int64."""
    return np.array(_powers(m, primitive(m)))


@cache
def cosets(m: int) -> tuple[tuple[int, int], ...]:
    """Cyclotomic cosets modulo 2^m - 1, 0 aside: (smallest element, size), the largest such element first."""
    order = 2**m - 1
    seen = np.zeros(order, dtype=bool)
    found = []
    for leader in range(1, order):
        if not seen[leader]:
            member, size = leader, 0
            while not seen[member]:
                seen[member] = True
                member, size = 2 * member % order, size + 1
            found.append((leader, size))
    return tuple(reversed(found))


@cache
def bch_chain(m: int) -> tuple[tuple[int, int, int], ...]:
    """The extended BCH codes of length 2^m: (dimension, least distance by the BCH bound, number of cosets), rising."""
    chain, dimension = [], 1
    for taken, (leader, size) in enumerate(cosets(m), 1):
        dimension += size
        chain.append((dimension, leader + 1, taken))
    return tuple(chain)


def extended_bch(m: int, taken: int) -> np.ndarray:
    """The generator matrix of the extended BCH code of length 2^m with so many cosets; column 0 is x = 0.

    The rows of a code are the first rows of every longer one.
    """
    powers, order = field(m), 2**m - 1
    traces = np.zeros(2**m, dtype=bool)
    for value in range(m):
        # Tr(x) = x + x^2 + x^4 + ...; linear, so that the powers 0 ... m - 1 of the element determine it.
        element, trace = int(powers[value]), 0
        for j in range(m):
            trace ^= int(powers[value * 2**j % order])
        traces[element] = trace & 1
    for value in range(1, 2**m):
        low = value & -value
        traces[value] = traces[low] ^ traces[value ^ low]
    ones = np.ones((1, 2**m), dtype=bool)
    rows: list[np.ndarray] = []
    for leader, size in cosets(m)[:taken]:
        exponents = -leader * np.arange(order) % order  # the negative: the zeros are to be 1, 2, 3, ...
        multiples = [np.concatenate([[False], traces[powers[(exponents + i) % order]]]) for i in range(m)]
        block = np.array(multiples)
        if size < m:  # the trace form then has a kernel
            block = block[_independent(block)]
        rows.append(block)
        if len(rows) == 1:
            rows.append(ones)
    return np.concatenate(rows)


def concatenated(m: int, dimension: int, n_symbols: int, inner: np.ndarray) -> np.ndarray:
    """The generator matrix ``(m * dimension, n_symbols * n)`` of polynomials of degree below ``dimension`` at so many
    elements of GF(2^m), each value written as the word of ``inner``, bool ``(m, n)``, that it numbers.

    Polynomials of that degree agree in fewer than ``dimension`` places, so that the distance is at least
    (n_symbols - dimension + 1) times that of ``inner``.
    """
    powers, order = field(m), 2**m - 1
    table = words(inner)
    rows = []
    for degree in range(dimension):
        for j in range(m):  # the coefficient x^j; the first element is 0, the others are powers
            values = powers[(j + degree * np.arange(n_symbols - 1)) % order]
            values = np.concatenate([[powers[j] if degree == 0 else 0], values])
            rows.append(table[values].ravel())
    return np.array(rows)


def extended_qr(p: int) -> np.ndarray:
    """The generator matrix ``((p + 1) / 2, p + 1)`` of the extended quadratic residue code; the parity bit is last.

    Raises ``ValueError`` where p has no known distance here.
    """
    if p not in QR_DISTANCES:
        raise ValueError(f"p must be one of {', '.join(map(str, QR_DISTANCES))}, got {p}")
    residues = np.zeros(p, dtype=bool)
    residues[np.arange(1, p) ** 2 % p] = True
    shifts = np.array([np.roll(residues, i) for i in range(p)] + [np.ones(p, dtype=bool)])
    rows = shifts[_independent(shifts)]
    if (
        len(rows) != (p + 1) // 2
    ):  # the sum over the residues is no zero of the code: take that over the others
        others = ~residues
        others[0] = False
        shifts = np.array([np.roll(others, i) for i in range(p)] + [np.ones(p, dtype=bool)])
        rows = shifts[_independent(shifts)]
    return np.concatenate([rows, rows.sum(axis=1, keepdims=True) % 2 == 1], axis=1)


def shortened(generator: np.ndarray, n_bits: int) -> np.ndarray:
    """The words that are 0 in ``n_bits`` independent positions, those positions deleted: ``(k - n_bits, n - n_bits)``.

    The distance does not fall.
    """
    matrix, pivots = reduced(generator[::-1], n_bits)
    return np.delete(matrix[n_bits:], pivots, axis=1)[::-1]


def reduced(generator: np.ndarray, n_pivots: int | None = None) -> tuple[np.ndarray, list[int]]:
    """Gauss elimination until ``n_pivots`` columns (None: all there are) hold a single 1 each, in rows 0, 1, ...

    Returns the matrix and those columns, the first that serve.
    """
    matrix = generator.copy()
    wanted = len(matrix) if n_pivots is None else n_pivots
    pivots: list[int] = []
    for column in range(matrix.shape[1]):
        row = len(pivots)
        if row == wanted:
            break
        below = np.flatnonzero(matrix[row:, column])
        if not len(below):
            continue
        matrix[[row, row + below[0]]] = matrix[[row + below[0], row]]
        clear = matrix[:, column].copy()
        clear[row] = False
        matrix[clear] ^= matrix[row]
        pivots.append(column)
    return matrix, pivots


def _independent(rows: np.ndarray) -> list[int]:
    """The first rows that are linearly independent."""
    return reduced(np.ascontiguousarray(rows.T))[1]


def words(generator: np.ndarray, count: int | None = None) -> np.ndarray:
    """The first ``count`` words (None: all 2^k), bool ``(count, n)``; word i sums the rows at the ones of i."""
    count = 2 ** len(generator) if count is None else count
    table = np.zeros((count, generator.shape[1]), dtype=bool)
    done = 1
    for row in generator:
        if done >= count:
            break
        step = min(done, count - done)
        np.logical_xor(table[:step], row, out=table[done : done + step])
        done += step
    return table
