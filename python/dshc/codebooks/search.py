"""Linear codes by search, where no construction reaches the bound: greedy, then tabu search, the same for a seed.

The word of message m has a 1 for each column h of the generator matrix with <m, h> = 1, so that a linear code is a
multiset of columns. A step changes one column, to that which leaves the least sum over the words of (distance -
weight)^2 where the weight falls short; the way back is barred for a few steps (Glover's tabu search). The search ends
with the first code that has nothing left. The budget is a number of steps: with more of them it goes through the same
states and then on. All sums are of whole numbers, so that machines agree.
"""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_DIMENSION", "linear_code"]

MAX_DIMENSION = 10
"""A step looks at all pairs of messages and columns: 2^20."""
_TENURE = 4
"""Least number of steps for which the way back is barred; up to twice as many are drawn."""
_STEP_SIZE = 1 << 22
"""Multiplications a step takes at most; where looking at all columns takes more, a few are drawn."""


def linear_code(n: int, k: int, distance: int, *, seed: int, steps: int) -> np.ndarray | None:
    """A generator matrix, bool ``(k, n)``, of a linear code of at least this distance; None where none was found.

    An even distance is searched as the odd one below it in n - 1 bits, and a parity bit added.
    """
    if distance % 2 == 0 and n > 1:
        odd = linear_code(n - 1, k, distance - 1, seed=seed, steps=steps)
        return None if odd is None else np.concatenate([odd, odd.sum(axis=1, keepdims=True) % 2 == 1], axis=1)
    rng = np.random.PCG64(seed)
    values = np.arange(1, 2**k)
    product = _parities(values).astype(np.float64)  # [message, column]; whole numbers, exact in any order
    n_columns = len(product)
    penalty = np.maximum(0, distance - np.arange(-1, n + 2)) ** 2.0  # of a weight from -1 on
    columns, weights = _greedy_columns(n, distance, product, rng)
    barred = np.zeros(n_columns, dtype=np.int64)
    n_tried = max(1, min(n, _STEP_SIZE // n_columns**2))
    for step in range(steps + 1):
        if not penalty[weights + 1].any():
            return _bits(columns + 1, k).T
        tried = np.arange(n) if n_tried == n else np.argsort(rng.random_raw(n), kind="stable")[:n_tried]
        without = weights - product[:, columns[tried]].T.astype(np.int64)
        left = penalty[without + 1]
        costs = left.sum(axis=1, keepdims=True) - (left - penalty[without + 2]) @ product
        costs[:, barred > step] = np.inf
        costs[np.arange(n_tried), columns[tried]] = np.inf
        chosen = _any_least(costs, rng)
        if chosen is None:
            continue
        i, new = divmod(chosen, n_columns)
        barred[columns[tried[i]]] = step + _TENURE + int(rng.random_raw() % (_TENURE + 1))
        weights = without[i] + product[:, new].astype(np.int64)
        columns[tried[i]] = new
    return None


def _greedy_columns(
    n: int, distance: int, product: np.ndarray, rng: np.random.PCG64
) -> tuple[np.ndarray, np.ndarray]:
    """Column by column the one that helps most where weight lags behind its share of the distance."""
    columns, weights = np.zeros(n, dtype=np.int64), np.zeros(len(product), dtype=np.int64)
    for j in range(n):
        lag = np.maximum(0, distance * (j + 1) - n * weights).astype(np.float64)
        columns[j] = _any_least(-(lag @ product), rng)
        weights += product[:, columns[j]].astype(np.int64)
    return columns, weights


def _parities(values: np.ndarray) -> np.ndarray:
    """Parity of the ones of v & w for all pairs."""
    both = values[:, None] & values
    for shift in (8, 4, 2, 1):
        both ^= both >> shift
    return both & 1


def _bits(values: np.ndarray, n: int) -> np.ndarray:
    return (values[:, None] >> np.arange(n) & 1).astype(bool)


def _any_least(costs: np.ndarray, rng: np.random.PCG64) -> int | None:
    """A flat index of the least cost, drawn among equal ones; None where all are barred."""
    least = costs.min()
    if least == np.inf:
        return None
    equal = np.flatnonzero(costs.ravel() == least)
    return int(equal[rng.random_raw() % len(equal)])
