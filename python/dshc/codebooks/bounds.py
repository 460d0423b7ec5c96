"""How far apart codes can be at best: upper bounds on A(n, d) and on the distance of a codebook.

A(n, d) is the largest number of words of n bits that differ pairwise in at least d of them. Every bound here is a
theorem, rounded down in exact arithmetic, so that a code that reaches it is optimal:

* Singleton, Hamming (sphere packing) and Plotkin, as in MacWilliams & Sloane, *The Theory of Error-Correcting
  Codes*, chapters 1 and 2; an odd d by A(n, d) = A(n + 1, d + 1).
* Delsarte's linear program: a polynomial in the Krawtchouk basis with coefficients >= 0 that is <= 0 at the
  distances d to n bounds A(n, d) by its value at 0. The solver's floating-point answer is rounded to a fraction and
  checked, and where needed lowered, in exact arithmetic.
* The table of A. E. Brouwer for n <= 28, https://www.win.tue.nl/~aeb/codes/binary-1.html (Best, Brouwer,
  MacWilliams, Odlyzko & Sloane, IEEE Trans. Inf. Th. 24 (1978), with later improvements), d = 4, 6, 8 and 10; its
  larger d are Plotkin's bound or close to it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import comb

import numpy as np

__all__ = ["BROUWER", "distance_bound", "hamming", "linear_program", "plotkin", "singleton", "size_bound"]

_MAX_PROGRAM = 256
"""Longest code the linear program is solved for; beyond, its numbers leave what a float can tell apart."""

BROUWER: dict[int, dict[int, tuple[int, int]]] = {
    4: {
        6: (4, 4), 7: (8, 8), 8: (16, 16), 9: (20, 20), 10: (40, 40), 11: (72, 72), 12: (144, 144), 13: (256, 256),
        14: (512, 512), 15: (1024, 1024), 16: (2048, 2048), 17: (2816, 3276), 18: (5632, 6552), 19: (10496, 13104),
        20: (20480, 26168), 21: (40960, 43688), 22: (81920, 87333), 23: (163840, 172361), 24: (327680, 344308),
        25: (2**19, 599184), 26: (2**20, 1198368), 27: (2**21, 2396736), 28: (2**22, 4792950),
    },
    6: {
        9: (4, 4), 10: (6, 6), 11: (12, 12), 12: (24, 24), 13: (32, 32), 14: (64, 64), 15: (128, 128), 16: (256, 256),
        17: (258, 340), 18: (512, 673), 19: (1024, 1237), 20: (2048, 2279), 21: (2560, 4096), 22: (4096, 6941),
        23: (8192, 13674), 24: (16384, 24106), 25: (17920, 47538), 26: (32768, 84260), 27: (65536, 157285),
        28: (131072, 291269),
    },
    8: {
        12: (4, 4), 13: (4, 4), 14: (8, 8), 15: (16, 16), 16: (32, 32), 17: (36, 36), 18: (64, 64), 19: (128, 128),
        20: (256, 256), 21: (512, 512), 22: (1024, 1024), 23: (2048, 2048), 24: (4096, 4096), 25: (4096, 5421),
        26: (4104, 9275), 27: (8192, 17099), 28: (16384, 32151),
    },
    10: {
        15: (4, 4), 16: (4, 4), 17: (6, 6), 18: (10, 10), 19: (20, 20), 20: (40, 40), 21: (42, 47), 22: (64, 84),
        23: (80, 150), 24: (136, 268), 25: (192, 466), 26: (384, 836), 27: (512, 1585), 28: (1024, 2817),
    },
}  # fmt: skip
"""Brouwer's table: even distance d, length n -> (words of the best code known, upper bound)."""


def singleton(n: int, d: int) -> int:
    """A(n, d) <= 2^(n - d + 1): deleting d - 1 bits leaves the words different."""
    return 2 ** (n - d + 1) if d <= n else 1


def hamming(n: int, d: int) -> int:
    """Sphere packing: balls of radius floor((d - 1) / 2) do not overlap."""
    ball = sphere = 1
    for i in range((d - 1) // 2):
        sphere = (
            sphere * (n - i) // (i + 1)
        )  # C(n, i + 1); afresh each time takes seconds at thousands of bits
        ball += sphere
    return 2**n // ball


def plotkin(n: int, d: int) -> int:
    """Plotkin's bound for even d, beyond n = 2d by A(n, d) <= 2 A(n - 1, d)."""
    if d > n:
        return 1
    if 2 * d > n:
        return 2 * (d // (2 * d - n))
    return 4 * d << (n - 2 * d)


@cache
def linear_program(n: int, d: int) -> int | None:
    """Delsarte's bound for even d <= n; None where the solver finds no certificate.

    Words of even weight suffice for an even d, so that distances are even and half the polynomials repeat.
    """
    from scipy.optimize import linprog

    distances, degrees = range(d, n + 1, 2), range(1, n // 2 + 1)
    table = {i: _krawtchouk(n, i) for i in distances}
    matrix = np.array([[table[i][k] / comb(n, k) for k in degrees] for i in distances])
    # One unknown a degree, the coefficient times C(n, k), keeps every entry between -1 and 1.
    answer = linprog(np.ones(len(degrees)), A_ub=matrix, b_ub=-np.ones(len(distances)), method="highs")
    if answer.x is None:
        return None
    parts = [Fraction(max(0.0, float(value))) for value in answer.x]
    at_0 = 1 + sum(parts)
    above = max(
        1
        + sum(
            part * Fraction(table[i][k], comb(n, k)) for k, part in zip(degrees, parts, strict=True) if part
        )
        for i in distances
    )
    if above >= 1:
        return None
    # f - above <= 0 at all distances, with constant term 1 - above; divided by it, it is a certificate again.
    above = max(above, Fraction(0))
    return int((at_0 - above) / (1 - above))


def _krawtchouk(n: int, x: int) -> list[int]:
    """K_0(x) ... K_n(x), the coefficients of (1 - z)^x (1 + z)^(n - x)."""
    values = [1, n - 2 * x]
    for k in range(1, n):
        values.append(((n - 2 * x) * values[k] - (n - k + 1) * values[k - 1]) // (k + 1))
    return values[: n + 1]


@cache
def size_bound(n: int, d: int, *, program: bool = True) -> tuple[int, str]:
    """The smallest bound here on A(n, d), and its name; ``program`` False leaves the linear program out."""
    if d <= 0:
        raise ValueError(f"d must be at least 1, got {d}")
    if d > n:
        return 1, "length"
    if d == 1:
        return 2**n, "all words"
    if d % 2:
        n, d = n + 1, d + 1
    bounds = [(plotkin(n, d), "Plotkin"), (singleton(n, d), "Singleton"), (hamming(n - 1, d - 1), "Hamming")]
    known = BROUWER.get(d, {}).get(n)
    if known is not None:
        bounds.append((known[1], "Brouwer's table"))
    elif program and n <= _MAX_PROGRAM and 2 * d < n:
        value = linear_program(n, d)
        if value is not None:
            bounds.append((value, "Delsarte's linear program"))
    return min(bounds, key=lambda bound: bound[0])


@cache
def distance_bound(n_words: int, n_bits: int) -> tuple[int | None, str]:
    """The largest distance that the bounds leave ``n_words`` words of ``n_bits`` bits, and the name of the bound
    that forbids one more. None for a single word, which keeps no distance.

    Raises ``ValueError`` where there are not that many words.

    >>> distance_bound(10, 10)
    (5, 'Plotkin')
    """
    if n_words < 2:
        return None, "one word"
    if n_words > 2**n_bits:
        raise ValueError(f"n_words must be at most {2**n_bits}, all words of {n_bits} bits, got {n_words}")
    allowed, forbidden = 1, n_bits + 1  # A(n, d) falls with d: one distance forbidden forbids all above
    while forbidden - allowed > 1:
        middle = (allowed + forbidden) // 2
        if size_bound(n_bits, middle, program=False)[0] >= n_words:
            allowed = middle
        else:
            forbidden = middle
    while allowed > 1 and size_bound(n_bits, allowed)[0] < n_words:
        allowed -= 1
    return allowed, size_bound(n_bits, allowed + 1)[1]
