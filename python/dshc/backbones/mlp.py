"""A small network over feature vectors."""

from __future__ import annotations

from torch import nn

__all__ = ["mlp"]


def mlp(n_inputs: int, *, width: int = 512, dropout: float = 0.3) -> nn.Sequential:
    """Two hidden layers over features ``(b, n_inputs)``; ``n_features`` is ``width``."""
    net = nn.Sequential(
        *(nn.Linear(n_inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)),
    )
    net.n_features = width
    return net
