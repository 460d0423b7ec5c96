"""Rescoring: the nearest by their codes, put in the order of their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, one_of
from ..storage.code_files import kind_of
from .layout import Layout

if TYPE_CHECKING:
    from .part_search import PartSearch
    from .parts import OpenPart

__all__ = ["Rescoring", "check", "vectors_of"]

METRICS = ("inner_product", "cosine", "l2")
_VALUES = 1 << 23
"""Most numbers of items' vectors that are compared at a time."""


def vectors_of(part: OpenPart, rows: np.ndarray) -> np.ndarray:
    """The vectors of these rows, float32 ``(n, dimensions)``."""
    vectors = part.arrays["vectors"][rows].astype(np.float32)
    if "vector_scales" in part.arrays:
        vectors *= part.arrays["vector_scales"][rows][:, None]
    return vectors


@dataclass(frozen=True)
class Rescoring:
    """``factor`` times k candidates are ordered by ``metric`` of their vectors and those of the queries."""

    factor: int
    vectors: np.ndarray
    metric: str

    def best(self, search: PartSearch, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Values float32 and positions ``(n_query, k)`` of the best; candidates that tie stay in their order.

        Sums are in float64, so that the order hardly depends on how they are made.
        """
        n_dimensions = self.vectors.shape[1]
        step = max(1, _VALUES // (positions.shape[1] * n_dimensions))
        values = np.empty((len(positions), k), np.float32)
        kept = np.empty((len(positions), k), np.int64)
        for start in range(0, len(positions), step):
            found = positions[start : start + step]
            candidates = np.zeros((*found.shape, n_dimensions), np.float64)
            flat = candidates.reshape(-1, n_dimensions)
            for places, part, rows in search.rows_of(found.reshape(-1)):
                flat[places] = vectors_of(part, rows)
            compared = self._compare(candidates, self.vectors[start : start + step])
            missing = found < 0
            compared[missing] = np.inf if self.metric == "l2" else -np.inf
            order = np.argsort(compared if self.metric == "l2" else -compared, axis=1, kind="stable")[:, :k]
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
                values[start : start + step] = np.take_along_axis(compared, order, axis=1)
            kept[start : start + step] = np.take_along_axis(found, order, axis=1)
        return values, kept

    def _compare(self, candidates: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Values ``(n_query, n_candidates)``."""
        queries = queries[:, None, :].astype(np.float64)
        if self.metric == "l2":
            return np.square(candidates - queries).sum(axis=2)
        products = (candidates * queries).sum(axis=2)
        if self.metric == "inner_product":
            return products
        norms = np.linalg.norm(candidates, axis=2) * np.linalg.norm(queries, axis=2)
        return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def check(rescore: object, vectors: object, metric: str, n_query: int, layout: Layout) -> Rescoring | None:
    """What is asked for, None where nothing is; ``TypeError`` or :class:`InputError` naming what does not fit."""
    if rescore is None:
        if vectors is not None:
            raise InputError("vectors must go with rescore (how many times k candidates), got no rescore")
        return None
    if layout.vectors == "none":
        raise InputError(
            "rescore must go with an index that has vectors (create it with vectors='float16'), this one has none"
        )
    if isinstance(rescore, bool) or not isinstance(rescore, (int, np.integer)) or rescore < 1:
        raise InputError(f"rescore must be an int of at least 1, got {rescore!r}")
    if metric not in METRICS:
        raise one_of("metric", metric, METRICS)
    array = np.asarray(vectors)
    shape = (n_query, layout.n_dimensions)
    if vectors is None or array.dtype.kind not in "fiu" or array.shape != shape:
        came = "none" if vectors is None else f"{kind_of(array)} {array.shape}"
        raise TypeError(f"vectors must be numbers of shape {shape}, got {came}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        queries = array.astype(np.float32)
    if not np.isfinite(queries).all():
        raise InputError("vectors must be finite in float32, got some that are not")
    return Rescoring(int(rescore), queries, metric)
