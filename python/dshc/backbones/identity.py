"""Features as they are: embeddings of another network that only need a head, or only a fit."""

from __future__ import annotations

from torch import nn

__all__ = ["identity"]


def identity(n_inputs: int) -> nn.Module:
    """Hands features ``(b, n_inputs)`` on; ``n_features`` is ``n_inputs``."""
    net = nn.Identity()
    net.n_features = n_inputs
    return net
