"""Small images enlarged before a network that was made for larger ones."""

from __future__ import annotations

import contextlib
import functools
import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Enlarging", "enlarged", "seen_shape"]


class Enlarging(nn.Module, ABC):
    """A network that enlarges its images first.

    ``input_size``: the side that they are enlarged to (:func:`enlarged`); None: as they are. ``train_size`` is another
    one in training mode. Both are attributes, and no part of the weights.
    """

    input_size: int | None = None
    train_size: int | None = None

    def enlarge(self, images: Tensor) -> Tensor:
        """Images ``(b, c, h, w)`` at the size that the network takes now."""
        side = (self.training and self.train_size) or self.input_size
        return images if side is None else enlarged(images, side)

    @abstractmethod
    def at_size(self) -> nn.Module:
        """The network behind it, which takes images at their size."""


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images ``(b, c, h, w)`` whose longer side is ``side`` pixels, by bicubic interpolation.

    A network made for photos halves them five times; images of 32 pixels would be one pixel behind it.

    Two products of matrices, in float32 at least, whatever autocast says: the interpolation of torch goes channel by
    channel where they lie last, and a network of small images feels it.
    """
    height, width = enlarged_shape(images.shape[2], images.shape[3], side)
    last = images.is_contiguous(memory_format=torch.channels_last)
    with _without_autocast(images.device.type):
        images = images if images.dtype == torch.float64 else images.float()
        rows, columns = (
            torch.from_numpy(_bicubic(n, m)).to(images)
            for n, m in ((images.shape[2], height), (images.shape[3], width))
        )
        larger = rows @ images @ columns.mT
    return larger.contiguous(memory_format=torch.channels_last) if last else larger


def _without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else contextlib.nullcontext()


# Of numpy: a tensor would be of whatever traces the first call, and stay so.
@functools.lru_cache(maxsize=16)
def _bicubic(n: int, m: int) -> np.ndarray:
    """What makes ``m`` pixels of a row of ``n``, float64 ``(m, n)``: cubic convolution (Keys 1981, with a = -3/4).

    Pixels are squares, and those beyond the border are the last ones before it, as torch and OpenCV have it.
    """
    a, matrix = -0.75, np.zeros((m, n))
    for row in range(m):
        center = (row + 0.5) * n / m - 0.5
        first = math.floor(center) - 1
        for pixel in range(first, first + 4):
            d = abs(center - pixel)
            inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
            outer = a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[row, min(max(pixel, 0), n - 1)] += inner if d <= 1 else outer
    return matrix


def seen_shape(item_shape: tuple[int, int, int], side: int | None) -> tuple[int, int, int]:
    """The shape ``(h, w, c)`` of an image that is enlarged to ``side``; as it is with None."""
    height, width, n_channels = item_shape
    return item_shape if side is None else (*enlarged_shape(height, width, side), n_channels)


def enlarged_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width with ``side`` as the longer one; ``ValueError`` where that is no enlargement."""
    longer = max(height, width)
    if side < longer:
        raise ValueError(f"input_size must be at least {longer}, the side of the images, got {side}")
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))
