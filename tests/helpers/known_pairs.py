"""Pairs of items whose classes are known to the test: some of them, some of those wrong."""

from __future__ import annotations

import numpy as np

from dshc.data.pairs import Pairs


def pairs_of(labels, *, known=1.0, wrong=0.0, seed=0):
    """Pairs of items with class ids ``(n,)`` or multi-hot labels ``(n, C)``: a share known, a share of these wrong."""
    rng = np.random.default_rng(seed)
    both = np.argwhere(np.triu(np.ones((len(labels), len(labels)), bool), 1))
    both = both[rng.random(len(both)) < known]
    first, second = labels[both[:, 0]], labels[both[:, 1]]
    similar = (first == second) if labels.ndim == 1 else (first & second).any(1)
    return Pairs.of(len(labels), both, similar ^ (rng.random(len(both)) < wrong))


def same_groups(found, labels):
    """Whether two numberings of classes stand for the same groups."""
    return (
        len(set(zip(found.tolist(), labels.tolist(), strict=True)))
        == len(set(found.tolist()))
        == len(set(labels.tolist()))
    )
