"""SH, spectral hashing: the signs of waves along the principal directions.

Weiss, Torralba and Fergus, *Spectral Hashing*, NIPS 2008. Codes that keep neighbours together, with bits that are
balanced and uncorrelated, are eigenvectors of a graph's Laplacian once they may be real numbers. For points that are
spread evenly over a box along the principal directions these are known: along a side of length r, from its lower end,

    sin(pi / 2 + omega (z - min)),  omega = j pi / r,  j = 1, 2, ...

and the eigenvalue rises with omega alone. The bits are the signs of those with the least omega.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import MAX_BITS, MethodSettings
from .fitted import FittedMethod
from .principal import in_chunks, principal_directions

__all__ = ["SH", "SineLayer", "least_frequencies"]


class SHSettings(MethodSettings):
    """Settings of SH."""

    name: Literal["sh"] = "sh"
    bits: int | None = setting(None, "code length (default: 32)", ge=1, le=MAX_BITS)


class SineLayer(nn.Linear):
    """The sine of a linear layer's outputs, which are angles in radians."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.sin(super().forward(input))


class SH(FittedMethod):
    """``outputs`` are sin(pi / 2 + omega (z - min)), one wave per bit, in order of their frequency omega.

    z = (x - mean) V are the components along the first principal directions of the training items, as many as bits
    or features, whichever is less; min and the length r of a side are those of the training items. What is written as
    a product of sines over all directions has one factor that is not 1, for products of waves are left out, as in the
    paper: their signs are known from those of their factors. So a bit is one row of a linear layer, and a sine.

    The authors' code widens each side by 2.2e-16 at both ends, against sides of length 0; here these have no waves.
    Of equal frequencies the direction of larger variance comes first. Beyond the box the waves go on.
    """

    name: ClassVar[str] = "sh"
    title: ClassVar[str] = "Spectral Hashing"
    source: ClassVar[str] = "Weiss, Torralba and Fergus, Spectral Hashing, NIPS 2008"
    Settings = SHSettings
    Head = SineLayer

    @property
    def least_items(self) -> int:
        """Two, which a side lies between."""
        return 2

    def fit(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, directions = principal_directions(features, self.n_bits)
        ends = [torch.aminmax((rows.double() - mean) @ directions, dim=0) for rows in in_chunks(features)]
        low = torch.stack([least for least, _ in ends]).amin(0)
        high = torch.stack([most for _, most in ends]).amax(0)
        direction, frequency = least_frequencies(high - low, self.n_bits)
        weight = frequency[:, None] * directions.T[direction]
        return weight, math.pi / 2 - weight @ mean - frequency * low[direction]


def least_frequencies(ranges: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` least j pi / r over all directions and j = 1, 2, ...: their direction int64 and value, both ``(n,)``.

    ``ranges`` r float64 ``(k,)``. They rise; of equal ones the first direction comes first. Raises ``ValueError``
    where no direction has a length.
    """
    if not ranges.amax() > 0:
        raise ValueError("features must differ, got the same for all items")
    # None goes beyond j = n, for the longest side alone has n waves as slow as that.
    waves = torch.arange(1, n + 1, dtype=torch.float64) * torch.pi
    frequencies = (waves / ranges[:, None]).flatten()  # infinite for sides of length 0, hence last
    order = torch.argsort(frequencies, stable=True)[:n]
    return order // n, frequencies[order]
