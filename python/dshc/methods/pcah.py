"""PCAH: the signs of principal components.

Wang, Zhang, Jing and Ma, *AnnoSearch: Image Auto-Annotation by Search*, CVPR 2006; the "PCA-Direct" that
ITQ begins with (Gong and Lazebnik, CVPR 2011).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..settings import setting
from .base import MAX_BITS, MethodSettings, Spec
from .fitted import FittedMethod
from .principal import principal_directions

__all__ = ["PCAH"]


class PCAHSettings(MethodSettings):
    """Settings of PCAH."""

    name: Literal["pcah"] = "pcah"
    bits: int | None = setting(None, "code length, at most the features (default: 32)", ge=1, le=MAX_BITS)


class PCAH(FittedMethod):
    """``outputs`` are (x - mean) V, with V ``(n_features, bits)`` the principal directions of the training items.

    Every bit counts alike, though components vary less and less: long codes spend most bits on directions in which
    little happens. Where features vary in fewer than ``bits`` directions, the directions left over are arbitrary and
    carry nothing.
    """

    name: ClassVar[str] = "pcah"
    title: ClassVar[str] = "Principal Component Analysis Hashing"
    source: ClassVar[str] = "Wang, Zhang, Jing and Ma, AnnoSearch, CVPR 2006"
    Settings = PCAHSettings

    def __init__(self, settings: PCAHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        if self.n_bits > spec.n_features:
            raise ValueError(
                f"bits must be at most {spec.n_features} (the number of features), got {self.n_bits}"
            )

    @property
    def least_items(self) -> int:
        """One more than bits, for the mean takes one away."""
        return self.n_bits + 1

    def fit(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, directions = principal_directions(features, self.n_bits)
        return directions.T, -mean @ directions
