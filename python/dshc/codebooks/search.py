"""Linear codes by search, where no construction reaches the bound; the same for a seed.

:func:`linear_code`, up to 10 dimensions: the word of message m has a 1 for each column h of the generator matrix with
<m, h> = 1, so that a linear code is a multiset of columns. Columns are taken greedily; then a step changes one, to that
which leaves the least sum over the words of (distance - weight)^2 where the weight falls short, and the way back is
barred for a few steps (Glover's tabu search). The search ends with the first code that has nothing left. All sums are
of whole numbers, so that machines agree. :func:`columns_to_add` is the same for columns and pairs of any kind, some of
which are chosen already: the way to codes whose first bits are a code of their own (:mod:`.nested`).

:func:`circulant_code`, up to 16 dimensions, draws codes whose generator matrix is the identity and circulant matrices
side by side, the last one cut: quasi-cyclic codes (Chen, Peterson & Weldon, *Some results on quasi-cyclic codes*, 1969)
whose words come in orbits, so that few of them need to be heavy by chance.

The budget of both is a number of steps: with more of them a search goes through the same states and then on.
"""

from __future__ import annotations

import numpy as np

import dshc_fast

from . import linear

__all__ = [
    "MAX_CIRCULANT",
    "MAX_DIMENSION",
    "circulant_code",
    "columns_to_add",
    "linear_code",
    "parities",
]

MAX_DIMENSION = 10
"""A step looks at all pairs of messages and columns: 2^20."""
MAX_CIRCULANT = 16
"""A step looks at all words: 2^16."""
_TENURE = 4
"""Least number of steps for which the way back is barred; up to twice as many are drawn."""
_STEP_SIZE = 1 << 22
"""Multiplications a step takes at most; where looking at all columns takes more, a few are drawn."""
_WORK = 1 << 28
"""Multiplications of all steps of :func:`columns_to_add`: a quarter of a second."""


def linear_code(n: int, k: int, distance: int, *, seed: int, steps: int) -> np.ndarray | None:
    """A generator matrix, bool ``(k, n)``, of a linear code of at least this distance; None where none was found.

    An even distance is searched as the odd one below it in n - 1 bits, and a parity bit added.
    """
    if distance % 2 == 0 and n > 1:
        odd = linear_code(n - 1, k, distance - 1, seed=seed, steps=steps)
        return None if odd is None else np.concatenate([odd, odd.sum(axis=1, keepdims=True) % 2 == 1], axis=1)
    rng = np.random.PCG64(seed)
    values = np.arange(1, 2**k)
    product = parities(values).astype(np.float64)  # [message, column]; whole numbers, exact in any order
    columns, weights = _greedy_columns(n, distance, product, rng)
    columns, least = _exchanged(product, columns, weights, distance, rng, steps)
    return _bits(columns + 1, k).T if least >= distance else None


def columns_to_add(
    parts: np.ndarray,
    weights: np.ndarray,
    n: int,
    distance: int,
    rng: np.random.PCG64,
    steps: int,
    supply: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """``n`` columns by which every pair of words gets at least this weight, or nearly, and the least weight reached.

    ``parts`` float64 ``(n_pairs, n_columns)`` of 0 and 1: the pairs that a column parts. ``weights`` ``(n_pairs,)``:
    what they have already. ``supply`` int ``(n_columns,)``: how often a column may be taken (None: without limit). It
    takes ``steps`` steps, or as many as come to 2^28 multiplications.
    """
    steps = min(steps, _WORK // min(n * parts.size, _STEP_SIZE))
    columns, reached = np.zeros(n, dtype=np.int64), weights.astype(np.float64)
    left = None if supply is None else supply.copy()
    for j in range(n):
        # Half of the columns to come may be counted on.
        lag = np.maximum(0, 2 * (distance - reached) - (n - j - 1))
        gains = lag @ parts
        if left is not None:
            gains[left == 0] = -np.inf
        columns[j] = _any_least(-gains, rng)
        reached += parts[:, columns[j]]
        if left is not None:
            left[columns[j]] -= 1
    return _exchanged(parts, columns, reached.astype(np.int64), distance, rng, steps, left)


def _exchanged(
    product: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    distance: int,
    rng: np.random.PCG64,
    steps: int,
    left: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """Columns exchanged one by one, until the least weight is the distance or the steps are used up.

    Returns those with the largest least weight of all that were seen, and that weight. ``left``: how often each column
    may still be taken.
    """
    n, n_columns = len(columns), product.shape[1]
    columns, best, reached = columns.copy(), columns.copy(), int(weights.min())
    penalty = (
        np.maximum(0, distance - np.arange(-1, int(weights.max()) + n + 2)) ** 2.0
    )  # from a weight of -1 on
    barred = np.zeros(n_columns, dtype=np.int64)
    n_tried = max(1, min(n, _STEP_SIZE // product.size))
    for step in range(steps + 1):
        if (least := int(weights.min())) > reached:
            best, reached = columns.copy(), least
        if reached >= distance:
            break
        tried = np.arange(n) if n_tried == n else np.argsort(rng.random_raw(n), kind="stable")[:n_tried]
        without = weights - product[:, columns[tried]].T.astype(np.int64)
        lacking = penalty[without + 1]
        costs = lacking.sum(axis=1, keepdims=True) - (lacking - penalty[without + 2]) @ product
        costs[:, barred > step] = np.inf
        if left is not None:
            costs[:, left == 0] = np.inf
        costs[np.arange(n_tried), columns[tried]] = np.inf
        chosen = _any_least(costs, rng)
        if chosen is None:
            continue
        i, new = divmod(chosen, n_columns)
        old = columns[tried[i]]
        barred[old] = step + _TENURE + int(rng.random_raw() % (_TENURE + 1))
        if left is not None:
            left[old] += 1
            left[new] -= 1
        weights = without[i] + product[:, new].astype(np.int64)
        columns[tried[i]] = new
    return best, reached


def circulant_code(n: int, k: int, more_than: int, *, seed: int, steps: int) -> tuple[np.ndarray, int] | None:
    """The generator matrix, bool ``(k, n)``, of the first best among ``steps`` circulant codes, and its distance; None
    where none has more than ``more_than``. The last bit is parity.
    """
    rng = np.random.PCG64(seed)
    shifts = (np.arange(k) - np.arange(k)[:, None]) % k
    n_circulants = -(-(n - 1) // k) - 1
    best = None
    for _ in range(steps if n > k else 0):
        first_rows = _bits(rng.random_raw(n_circulants).astype(np.int64) & (2**k - 1), k)
        parts = [np.eye(k, dtype=bool), *(row[shifts] for row in first_rows)]
        generator = np.concatenate(parts, axis=1)[:, : n - 1]
        generator = np.concatenate([generator, generator.sum(axis=1, keepdims=True) % 2 == 1], axis=1)
        for rows in (min(k, 8), k):  # most are found wanting among a few words
            distance = _least_weight(generator[:rows])
            if distance <= more_than:
                break
        else:
            best, more_than = generator, distance
    return None if best is None else (best, more_than)


def _least_weight(generator: np.ndarray) -> int:
    packed = dshc_fast.pack_codes(linear.words(generator))
    return int(dshc_fast.hamming_distance(packed[:1], packed[1:]).min())


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


def parities(values: np.ndarray) -> np.ndarray:
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
