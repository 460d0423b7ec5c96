"""Codes that substring tables find quickly."""

from __future__ import annotations

import numpy as np
from strategies import make_codes


def clustered(
    rng: np.random.Generator, n: int, n_bytes: int, n_centers: int, p: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Codes around random centers, and the centers."""
    centers = make_codes(rng, n_centers, n_bytes)
    flips = np.packbits(rng.random((n, 8 * n_bytes)) < p, axis=1)
    return centers[rng.integers(0, n_centers, n)] ^ flips, centers
