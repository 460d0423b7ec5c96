"""LSH: the sides of random planes through the mean. Nothing is learned but the mean.

Charikar, *Similarity Estimation Techniques from Rounding Algorithms*, STOC 2002, section 3: with w drawn from a normal
distribution, the signs of <w, x> and <w, y> differ with probability angle(x, y) / pi. The Hamming distance of two
codes is thus an estimate of the angle at which their items are seen from the mean, the better the longer they are.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..settings import setting
from .base import MAX_BITS, MethodSettings
from .fitted import FittedMethod
from .principal import mean_feature

__all__ = ["LSH"]


class LSHSettings(MethodSettings):
    """Settings of LSH."""

    name: Literal["lsh"] = "lsh"
    bits: int | None = setting(None, "code length (default: 32)", ge=1, le=MAX_BITS)


class LSH(FittedMethod):
    """Random hyperplanes: ``outputs`` are (x - mean) W^T, with W ``(bits, n_features)`` of standard normal numbers.

    The paper's planes go through the origin. Features of a network that ends in ReLU all lie on one side of most of
    them, so that bits hardly differ; planes through the mean of the training items part them.
    """

    name: ClassVar[str] = "lsh"
    title: ClassVar[str] = "Locality-Sensitive Hashing by random hyperplanes"
    source: ClassVar[str] = (
        "Charikar, Similarity Estimation Techniques from Rounding Algorithms, STOC 2002, section 3"
    )
    Settings = LSHSettings

    def fit(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        planes = torch.randn(self.n_bits, features.shape[1], dtype=torch.float64, generator=generator)
        return planes, -planes @ mean_feature(features)
