"""What asymmetric_topk must answer, straight from its contract: float32, one addition after the other; and the same
sums in float64 without an order. Written without a look at `dshc_fast.reference`."""

from __future__ import annotations

import numpy as np
import oracles


def distances(outputs: np.ndarray, database: np.ndarray) -> np.ndarray:
    """float32 `(n_query, n_db)`, in the contract's order of additions."""
    n_query, n_bits = outputs.shape
    n_bytes = database.shape[1]
    with np.errstate(over="ignore", under="ignore"):
        outputs = outputs.astype(np.float32)
        code_bits = oracles.bits(database) != 0
        out = np.zeros((n_query, len(database)), np.float32)
        for q in range(n_query):
            w = np.zeros((len(database), 8 * n_bytes), np.float32)
            for j in range(n_bits):
                weight = np.abs(outputs[q, j])
                w[code_bits[:, j] != (outputs[q, j] > 0), j] = 0 if np.isnan(weight) else weight
            for byte in range(n_bytes):
                a, b, c, d, e, f, g, h = w[:, 8 * byte : 8 * byte + 8].T
                out[q] = out[q] + (((a + b) + (c + d)) + ((e + f) + (g + h)))
    return out


def plain_distances(outputs: np.ndarray, database: np.ndarray) -> np.ndarray:
    """float64, by another formula: half of what the inner product with +1 and -1 falls short of the sum of |output|."""
    outputs = outputs.astype(np.float64)
    signs = 2 * oracles.bits(database)[:, : outputs.shape[1]] - 1
    return (np.abs(outputs).sum(1)[:, None] - outputs @ signs.T) / 2


def topk(outputs: np.ndarray, database: np.ndarray, k: int, allowed: np.ndarray | None = None):
    """(distances float32, indices int64), filled up with +inf and -1 where fewer than k are allowed."""
    values = distances(outputs, database)
    found = np.full((len(outputs), k), np.inf, np.float32), np.full((len(outputs), k), -1, np.int64)
    may = oracles.allowed_matrix(allowed, *values.shape)
    for q, order in enumerate(oracles.ranking(values, may, "hamming")):
        first = order[:k]
        found[0][q, : len(first)], found[1][q, : len(first)] = values[q, first], first
    return found
