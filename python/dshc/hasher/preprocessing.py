"""From raw items to what the backbone takes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..data.image_batches import normalised

__all__ = ["Preprocessing", "mean_of_flips"]


class Preprocessing(nn.Module):
    """Raw items to normalised float32 inputs; mean and deviation are part of the model.

    ``kind`` ``"images"``: uint8 ``(b, h, w, c)`` to ``(b, c, h, w)``, (pixel / 255 - mean) / std by channel.
    ``"features"``: float ``(b, d)`` to (x - mean) / std.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("mean", mean.detach().clone().float())
        self.register_buffer("std", std.detach().clone().float())

    def forward(self, items: Tensor) -> Tensor:
        if self.kind == "features":
            return (items.float() - self.mean) / self.std
        return normalised(items.float(), self.mean, self.std)


def mean_of_flips(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The mean of a network's outputs of images ``(b, c, h, w)`` and of their mirror images."""
    return (network(inputs) + network(inputs.flip(-1))) / 2
