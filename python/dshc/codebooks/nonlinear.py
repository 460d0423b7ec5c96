"""Codes that are not linear: from Hadamard matrices, Kerdock codes, Best's code.

Words are the rows of bool arrays.

* A Hadamard matrix of order h (rows of +-1, pairwise orthogonal) gives its rows and their complements, 2h words of h
  bits, distance h / 2; without the constant first column h words of h - 1 bits; shortened once more h / 2 words of
  h - 2 bits, all at the same distance. Set side by side they meet Plotkin's bound (Levenshtein; MacWilliams & Sloane,
  chapter 2, theorem 8). Orders by Sylvester's doubling and Kronecker products, and by Paley from the squares of GF(q),
  q a prime or the square of one.
* Kerdock codes of 2^(m + 1) bits, m odd: 4^(m + 1) words, distance 2^m - 2^((m - 1) / 2). m = 3 is the
  Nordstrom-Robinson code (16, 256, 6); m = 5 keeps 4096 words of 64 bits 28 apart, where the linear code of that
  distance has 1024. Made as in Hammons, Kumar, Calderbank, Sloane & Sole, IEEE Trans. Inf. Th. 40 (1994): the Gray
  image of a linear code over Z_4.
* Best's code (10, 40, 4): the Gray image of the cyclic shifts of (c - d, b, c, d, b + c), b, c, d = +-1 (Conway &
  Sloane, *Quaternary constructions for the binary single-error-correcting codes of Julin, Best and others*, 1994).
"""

from __future__ import annotations

from functools import cache
from itertools import product
from math import isqrt

import numpy as np

from .linear import primitive

__all__ = ["best_code", "hadamard", "hadamard_words", "has_hadamard", "kerdock"]


@cache
def _recipe(order: int) -> tuple[str, int] | None:
    """How to make a Hadamard matrix: ("paley", q), ("double paley", q), ("product", a factor), None if unknown here."""
    if order in (1, 2):
        return "known", order
    if order % 4:
        return None
    for q, name, remainder in ((order - 1, "paley", 3), (order // 2 - 1, "double paley", 1)):
        root = isqrt(q)
        if q % 4 == remainder and (_prime(q) or root * root == q and _prime(root)):
            return name, q
    for factor in (2, *range(4, isqrt(order) + 1, 4)):
        if order % factor == 0 and _recipe(factor) and _recipe(order // factor):
            return "product", factor
    return None


def has_hadamard(order: int) -> bool:
    """Whether :func:`hadamard` makes this order."""
    return _recipe(order) is not None


@cache
def hadamard(order: int) -> np.ndarray:
    """A Hadamard matrix, int8 ``(order, order)`` of +-1, its first row and column 1.

    Raises ``ValueError`` for an order that these constructions do not give.
    """
    recipe = _recipe(order)
    if recipe is None:
        raise ValueError(f"order must be one that a Hadamard matrix is made of here, got {order}")
    name, number = recipe
    if name == "known":
        matrix = np.array([[1, 1], [1, -1]], dtype=np.int8)[:order, :order]
    elif name == "product":
        matrix = np.kron(hadamard(number), hadamard(order // number))
    else:
        squares = _squares(number)
        skew = name == "paley"
        core = np.zeros((number + 1, number + 1), dtype=np.int8)
        core[1:, 1:] = squares
        core[0, 1:] = 1
        core[1:, 0] = -1 if skew else 1
        eye = np.eye(number + 1, dtype=np.int8)
        if skew:
            matrix = core + eye
        else:
            matrix = np.kron(core, np.array([[1, 1], [1, -1]], dtype=np.int8))
            matrix = matrix + np.kron(eye, np.array([[1, -1], [-1, -1]], dtype=np.int8))
    matrix = matrix * matrix[:, :1]
    return matrix * matrix[:1]


def hadamard_words(order: int, deleted: int) -> np.ndarray:
    """The words of a Hadamard code, ``deleted`` 0, 1 or 2 columns shorter than the matrix, bool."""
    ones = hadamard(order) < 0
    if deleted == 0:
        return np.concatenate([ones, ~ones])
    return ones[:, 1:] if deleted == 1 else ones[~ones[:, 1], 2:]


def _prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


def _squares(q: int) -> np.ndarray:
    """The quadratic character of x - y over GF(q), int8 ``(q, q)``: 0, 1 for a square, -1 else."""
    p = q if _prime(q) else isqrt(q)
    character = -np.ones(p, dtype=np.int8)
    character[np.arange(1, p) ** 2 % p] = 1
    character[0] = 0
    if p == q:
        return character[(np.arange(q)[:, None] - np.arange(q)) % q]
    # x = a + b sqrt(g), g no square; x is a square where its norm a^2 - g b^2 is one modulo p.
    g = int(np.flatnonzero(character == -1)[0])
    a, b = np.divmod(np.arange(q), p)
    first, second = a[:, None] - a, b[:, None] - b
    return character[(first**2 - g * second**2) % p]


def kerdock(m: int) -> np.ndarray:
    """The words of the Kerdock code of 2^(m + 1) bits, bool ``(4^(m + 1), 2^(m + 1))``; m odd, 3 to 7.

    The first 2^(m + 1) words are 2^m apart.
    """
    if m not in (3, 5, 7):
        raise ValueError(f"m must be 3, 5 or 7, got {m}")
    lift = _lifted(primitive(m))
    powers = np.zeros((2**m, m), dtype=np.int64)  # row 0 stands for 0, the others for the powers of a root
    powers[1, 0] = 1
    for j in range(2, 2**m):
        powers[j, 1:] = powers[j - 1, :-1]
        powers[j] = (powers[j] - powers[j - 1, -1] * lift[:m]) % 4
    rows = np.concatenate([np.ones((1, 2**m), dtype=np.int64), powers.T]).astype(np.uint8)
    twice = _spanned(2 * rows)
    once = _spanned(rows)
    return _gray((once[:, None] + twice).reshape(-1, 2**m) % 4)


def _spanned(rows: np.ndarray) -> np.ndarray:
    """All sums of rows modulo 4, each row once or not at all."""
    table = np.zeros((1, rows.shape[1]), dtype=np.uint8)
    for row in rows:
        table = np.concatenate([table, (table + row) % 4])
    return table


def _lifted(polynomial: int) -> np.ndarray:
    """The coefficients, lowest first, of the monic polynomial over Z_4 whose roots are those Teichmueller elements that
    reduce to the roots over GF(2) (Graeffe's method).
    """
    bits = np.array([polynomial >> i & 1 for i in range(polynomial.bit_length())], dtype=np.int64)
    even, odd = bits.copy(), bits.copy()
    even[1::2] = 0
    odd[::2] = 0
    square = (np.convolve(even, even) - np.convolve(odd, odd))[::2]
    return square * square[-1] % 4


def _gray(values: np.ndarray) -> np.ndarray:
    """0, 1, 2, 3 as 00, 01, 11, 10."""
    return np.stack([values >= 2, (values == 1) | (values == 2)], axis=-1).reshape(len(values), -1)


def best_code() -> np.ndarray:
    """Best's code: 40 words of 10 bits, distance 4."""
    words = [
        np.roll([c - d, b, c, d, b + c], shift)
        for shift in range(5)
        for b, c, d in product((1, -1), repeat=3)
    ]
    return _gray(np.array(words) % 4)
