"""Small sets to evaluate: one that is worked by hand, and random ones."""

from __future__ import annotations

import numpy as np

import dshc_fast
from dshc.evaluation import Conventions, Evaluation, evaluate

# Distances 0, 1, 1, 2, 2, 2 from the query, relevance 1, 0, 1, 1, 0, 0.
QUERY = np.array([[0b00]], np.uint8)
DATABASE = np.array([[0b00], [0b01], [0b10], [0b11], [0b11], [0b11]], np.uint8)
QUERY_LABELS, DATABASE_LABELS = np.array([1]), np.array([1, 0, 1, 1, 0, 0])


def hand(*, accuracy: float | None = None, **conventions: object) -> Evaluation:
    """The set worked by hand, under these conventions."""
    return evaluate(
        QUERY,
        DATABASE,
        QUERY_LABELS,
        DATABASE_LABELS,
        n_bits=2,
        accuracy=accuracy,
        conventions=Conventions(**conventions),
    )


def random_sets(
    n_query: int = 20, n_db: int = 70, n_bits: int = 11, *, multilabel: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Packed codes of queries and database, and their labels."""
    rng = np.random.default_rng(seed)
    codes = [dshc_fast.pack_codes(rng.standard_normal((n, n_bits))) for n in (n_query, n_db)]
    return (*codes, *random_labels(rng, (n_query, n_db), multilabel))


def random_labels(rng: np.random.Generator, sizes: tuple[int, ...], multilabel: bool) -> list[np.ndarray]:
    """Five classes, or six labels of which an item has one or two, or none."""
    if not multilabel:
        return [rng.integers(0, 5, n) for n in sizes]
    return [(rng.integers(0, 2, (n, 6)) * rng.integers(0, 2, (n, 6))).astype(np.uint8) for n in sizes]
