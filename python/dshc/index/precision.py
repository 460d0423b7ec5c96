"""How right what lies within a radius is, measured, and the radius for a precision that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dshc_fast

from ..errors import InputError
from .id_column import Wanted
from .layout import Layout
from .parts import OpenPart

__all__ = ["precision_by_radius", "widest_radius"]

_QUERIES = 1024  # whose histograms are held at a time


def precision_by_radius(
    parts: Sequence[OpenPart], layout: Layout, codes: np.ndarray, labels: Any, without: Any = None
) -> np.ndarray:
    """Mean over the queries that find anything of the share of relevant items within each radius, ``(bits + 1,)``.

    NaN where no query finds anything. Items without a label, and those with ids in ``without``, count nowhere. Raises
    :class:`InputError` for an index without labels or that ranks by overlap, and for labels that do not fit.
    """
    if layout.score != "hamming":
        raise InputError(
            "calibrate must go with an index that ranks by Hamming distance, this one ranks by overlap"
        )
    if layout.labels == "none":
        raise InputError("calibrate must go with an index that has labels, this one has none")
    labels = np.asarray(labels)
    shape = (len(codes),) if layout.labels == "ids" else (len(codes), layout.n_labels)
    if not len(codes) or labels.shape != shape or labels.dtype.kind not in "biu":
        raise InputError(
            f"labels must be integers of shape {shape} for at least one query, got {labels.dtype} {labels.shape}"
        )
    left_out = None if without is None else Wanted(without)
    counted = [_counted(part, left_out) for part in parts]
    dtype = np.int64 if layout.labels == "ids" else np.uint8
    n_radii = layout.n_bits + 1
    total, n_found = np.zeros(n_radii), np.zeros(n_radii, np.int64)
    for start in range(0, len(codes), _QUERIES):
        queries, own = codes[start : start + _QUERIES], labels[start : start + _QUERIES].astype(dtype)
        items, relevant = (np.zeros((len(queries), n_radii), np.int64) for _ in range(2))
        for part, (theirs, allowed) in zip(parts, counted, strict=True):
            found = dshc_fast.hamming_histogram(queries, part.arrays["codes"], own, theirs, allowed=allowed)
            items += found.items[:, :n_radii]
            relevant += found.relevant[:, :n_radii]
        items, relevant = items.cumsum(axis=1), relevant.cumsum(axis=1)
        total += np.divide(relevant, items, out=np.zeros(items.shape), where=items > 0).sum(axis=0)
        n_found += (items > 0).sum(axis=0)
    return np.divide(total, n_found, out=np.full(n_radii, np.nan), where=n_found > 0)


def _counted(part: OpenPart, without: Wanted | None) -> tuple[np.ndarray, np.ndarray]:
    """The labels of a part, and which of its rows count."""
    labels = np.ascontiguousarray(part.arrays["labels"])
    counts = labels >= 0 if labels.ndim == 1 else labels.any(axis=1)
    if part.is_live is not None:
        counts &= part.is_live
    if without is not None:
        rows = part.find(without)
        counts[rows[rows >= 0]] = False
    return labels, counts


def widest_radius(measured: Sequence[float], wanted: float, path: Path) -> int:
    """The largest radius up to which the measured precision is at least the wanted one."""
    if not 0 < wanted <= 1:
        raise InputError(f"precision must lie in (0, 1], got {wanted}")
    if not len(measured):
        raise InputError(f"{path}: no precision is known yet; calibrate(codes, labels) measures it")
    precision = np.array(measured)
    enough = (precision >= wanted) | np.isnan(precision)
    radius = len(precision) - 1 if enough.all() else int(np.argmin(enough)) - 1
    if radius < 0 or np.isnan(precision[: radius + 1]).all():
        best = np.nanmax(precision)
        raise InputError(f"precision must be reached by some radius, {wanted} is not; the best is {best:.4f}")
    return radius
