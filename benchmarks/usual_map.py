"""The usual numpy evaluation of mAP in deep hashing, written here as the baseline: float32 ±1 codes; for each
query one matrix-vector product, numpy's default argsort of the distances, and the cumulative precision. Ties
fall as the sort leaves them. Called with one BLAS thread.
"""

from __future__ import annotations

import numpy as np


def usual_mean_average_precision(
    query_signs: np.ndarray,
    database_signs: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    k: int | None = None,
    kind: str | None = None,
) -> float:
    """mAP@k, all without k, over the relevant items retrieved. Signs are float32 (n, bits) of -1 and +1, labels
    class ids (n,). `kind`: numpy's sort; "stable" is the order of the database inside ties."""
    n_bits = query_signs.shape[1]
    ranks = np.arange(1, len(database_signs) + 1)[:k]
    precisions = np.zeros(len(query_signs))
    for i, (signs, label) in enumerate(zip(query_signs, query_labels, strict=True)):
        distances = 0.5 * (n_bits - database_signs @ signs)
        relevant = (database_labels == label)[np.argsort(distances, kind=kind)][:k]
        n_relevant = relevant.sum()
        if n_relevant:
            precisions[i] = (np.cumsum(relevant) / ranks)[relevant].sum() / n_relevant
    return float(precisions.mean())
