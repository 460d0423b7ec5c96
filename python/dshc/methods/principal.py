"""Means and principal directions of features: what methods that are fitted to them begin with."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["in_chunks", "mean_feature", "principal_directions"]

_CHUNK = 1 << 22  # numbers of a float64 copy at a time, 32 MiB


def mean_feature(features: Tensor) -> Tensor:
    """The mean, float64 ``(d,)``, of ``features`` float ``(n, d)``; raises ``ValueError`` where it is not finite."""
    total = torch.zeros(features.shape[1], dtype=torch.float64)
    for rows in in_chunks(features):
        total += rows.double().sum(0)
    mean = total / len(features)
    if not torch.isfinite(mean).all():
        raise ValueError("features must be finite, got NaN or infinity")
    return mean


def principal_directions(features: Tensor, n_directions: int) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and the first principal directions ``(d, n_directions)`` of ``features`` float ``(n, d)``.

    Float64, on the CPU. Directions are orthonormal, by falling variance; the entry of largest magnitude is positive,
    for an eigenvector's sign is arbitrary. Raises ``ValueError`` where features are not finite.
    """
    mean = mean_feature(features)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for rows in in_chunks(features):
        centered = rows.double() - mean
        scatter.addmm_(centered.T, centered)
    _, vectors = torch.linalg.eigh(scatter / len(features))
    directions = vectors.flip(1)[:, :n_directions]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return mean, directions * largest.sign()


def in_chunks(features: Tensor) -> tuple[Tensor, ...]:
    """The rows of ``(n, d)`` in parts that are small enough to be copied in float64."""
    return features.split(max(1, _CHUNK // features.shape[1]))
