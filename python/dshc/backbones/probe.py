"""Whether a network takes images of some size, and what it gives for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["features_of"]


def features_of(net: nn.Module, name: str, item_shape: tuple[int, int, int]) -> Tensor:
    """What ``net`` gives for a black image; ValueError where it refuses images of that size."""
    height, width, n_channels = item_shape
    try:
        with torch.no_grad():
            return net.eval()(torch.zeros(1, n_channels, height, width))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"image_size must be one that {name} accepts, got {height}x{width} ({error})"
        ) from None
