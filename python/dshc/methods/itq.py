"""ITQ: principal components, turned so that they lie near the corners of a cube. Nothing is trained.

Gong and Lazebnik, *Iterative Quantization: A Procrustean Approach to Learning Binary Codes*, CVPR 2011 (with Gordo and
Perronnin, TPAMI 2013), sections 2.1 and 2.2. It takes items without labels and is the floor that supervised methods
are measured against.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..settings import setting
from .base import MAX_BITS, MethodSettings
from .pcah import PCAH
from .principal import in_chunks, principal_directions

__all__ = ["ITQ", "next_rotation", "random_rotation", "signs"]


class ITQSettings(MethodSettings):
    """Settings of ITQ."""

    name: Literal["itq"] = "itq"
    bits: int | None = setting(None, "code length, at most the features (default: 32)", ge=1, le=MAX_BITS)
    iterations: int = setting(50, "times that codes and rotation are found from each other", ge=1, le=100_000)


class ITQ(PCAH):
    """The sign of rotated principal components.

    ``outputs`` are (x - mean) V R, with V ``(n_features, bits)`` the principal directions of the training items and R
    ``(bits, bits)`` the rotation: those of PCAH, turned. The head is the linear layer with weight (V R)^T and bias
    -mean V R. The first bits of a code are no shorter code, for a rotation mixes all of them.

    Ties: a bit is 1 where an output is more than 0, in training and in encoding alike. The paper takes sign(0) = +1
    in training; a component that is exactly 0 adds the same to the objective either way.
    """

    name: ClassVar[str] = "itq"
    title: ClassVar[str] = "Iterative Quantization"
    source: ClassVar[str] = "Gong and Lazebnik, Iterative Quantization, CVPR 2011 and TPAMI 2013, equation 2"
    Settings = ITQSettings

    def fit(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, directions = principal_directions(features, self.n_bits)
        projected = torch.cat([(rows.double() - mean) @ directions for rows in in_chunks(features)])
        rotation = random_rotation(self.n_bits, generator)
        for _ in range(self.settings.iterations):
            rotation = next_rotation(projected, rotation)
        weight = directions @ rotation
        return weight.T, -mean @ weight


def random_rotation(size: int, generator: torch.Generator) -> Tensor:
    """An orthogonal matrix, float64 ``(size, size)``, all being equally likely."""
    normal = torch.randn(size, size, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(normal)
    # The signs of q are the library's choice otherwise, and not all matrices equally likely.
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)


def next_rotation(projected: Tensor, rotation: Tensor) -> Tensor:
    """The orthogonal R nearest to codes: it minimises ||B - Z R||, with B = signs(Z ``rotation``).

    ``projected`` Z float ``(n, k)``, ``rotation`` ``(k, k)``. ||B - Z R|| after it is never more than before.
    """
    # B^T Z = S Omega S'^T gives R = S' S^T: the trace of B^T Z R is then the sum of Omega, and cannot be more.
    left, _, right = torch.linalg.svd(signs(projected @ rotation).T @ projected)
    return right.T @ left.T


def signs(values: Tensor) -> Tensor:
    """1 where a value is more than 0, else -1; the dtype stays."""
    return torch.where(values > 0, 1.0, -1.0).to(values.dtype)
