"""Inputs as they are: embeddings of another network, or pixels, that only need a head or a fit."""

from __future__ import annotations

import math

from torch import nn

__all__ = ["identity"]


def identity(item_shape: tuple[int, ...]) -> nn.Module:
    """Hands features ``(b, d)`` on, and the pixels of images ``(b, c, h, w)`` as ``(b, c * h * w)``.

    ``item_shape`` is ``(d,)`` or ``(h, w, c)``; ``n_features`` is the number of its entries.
    """
    net = nn.Identity() if len(item_shape) == 1 else nn.Flatten()
    net.n_features = math.prod(item_shape)
    return net
