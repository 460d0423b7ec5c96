"""A map of a database: its different codes in the plane, so that codes of a small distance lie near each other."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

import dshc_fast

from ..index import HashIndex
from .batches import details_of

__all__ = ["MOST_CODES", "MOST_ITEMS", "code_map", "laid_out"]

MOST_CODES = 2000
"""t-SNE of so many takes some seconds."""
MOST_ITEMS = 100_000
"""Of more items, so many are drawn at random."""


def code_map(
    index: HashIndex, *, most_codes: int = MOST_CODES, most_items: int = MOST_ITEMS
) -> dict[str, Any]:
    """The most frequent codes of an index, each with its place, number of items, most frequent label and an id."""
    ids = index.sample(most_items, seed=0).tolist()
    if not ids:
        return {"points": [], "n_looked_at": 0, "n_codes": 0}
    codes = index.get(ids, metadata=False, vectors=False).codes
    labels = [more["label"] for more in details_of(index, ids, frozenset({"label"}))]
    different, first, inverse, counts = np.unique(
        codes, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    shown = np.lexsort((first, -counts))[:most_codes]
    of_code: list[Counter[str | None]] = [Counter() for _ in different]
    for number, label in zip(inverse.reshape(-1).tolist(), labels, strict=True):
        of_code[number][label] += 1
    places = laid_out(different[shown], index.n_bits)
    points = [
        {
            "x": round(float(x), 5),
            "y": round(float(y), 5),
            "code": different[number].tobytes().hex(),
            "n_items": int(counts[number]),
            "label": of_code[number].most_common(1)[0][0],
            "id": ids[first[number]],
        }
        for number, (x, y) in zip(shown.tolist(), places, strict=True)
    ]
    return {"points": points, "n_looked_at": len(ids), "n_codes": len(different)}


def laid_out(codes: np.ndarray, n_bits: int) -> np.ndarray:
    """Places float ``(n, 2)`` in 0 to 1 for different packed codes: t-SNE of their bits, the same in every run.

    The squared Euclidean distance of rows of 0 and 1, which t-SNE goes by, is their Hamming distance. Source: L. van
    der Maaten, G. Hinton, Visualizing Data using t-SNE, JMLR 9 (2008).
    """
    n = len(codes)
    if n < 5:  # nothing to arrange: on a line, by the distance from the first
        far = dshc_fast.hamming_distance(codes[:1], codes)[0]
        x = far / max(1, int(far.max()))
        return np.stack([x, np.linspace(0, 1, n)], axis=1)
    from sklearn.manifold import TSNE

    bits = (dshc_fast.unpack_codes(codes, n_bits) > 0).astype(np.float32)
    places = TSNE(
        init="pca", perplexity=min(30.0, (n - 1) / 3), random_state=0, learning_rate="auto"
    ).fit_transform(bits)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-9)
