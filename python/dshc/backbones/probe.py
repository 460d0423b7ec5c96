"""Whether a network takes images of some size, and what it gives for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["features_of"]


def features_of(
    net: nn.Module, name: str, item_shape: tuple[int, int, int], setting: str = "image_size"
) -> Tensor:
    """What ``net`` gives for a black image; ValueError where it refuses the size, which that ``setting`` chose."""
    height, width, n_channels = item_shape
    try:
        with torch.no_grad():
            return net.eval()(torch.zeros(1, n_channels, height, width))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{setting} must be one that {name} accepts, got {height}x{width} ({error})"
        ) from None
