"""ITQ: principal components, turned so that they lie near the corners of a cube. Nothing is trained.

Gong and Lazebnik, *Iterative Quantization: A Procrustean Approach to Learning Binary Codes*, CVPR 2011 (with Gordo and
Perronnin, TPAMI 2013), sections 2.1 and 2.2. It takes items without labels and is the floor that supervised methods
are measured against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import dshc_fast

from ..settings import setting
from .base import MAX_BITS, Method, MethodSettings, Pass, Spec, Stage, Training

__all__ = ["ITQ", "next_rotation", "principal_directions", "random_rotation", "signs"]

_CHUNK = 1 << 22  # numbers of a float64 copy at a time, 32 MiB


class ITQSettings(MethodSettings):
    """Settings of ITQ."""

    name: Literal["itq"] = "itq"
    bits: int | None = setting(None, "code length, at most the features (default: 32)", ge=1, le=MAX_BITS)
    iterations: int = setting(50, "times that codes and rotation are found from each other", ge=1, le=100_000)


class ITQ(Method):
    """The sign of rotated principal components.

    ``outputs`` are (x - mean) V R, with V ``(n_features, bits)`` the principal directions of the training items and R
    ``(bits, bits)`` the rotation. The head is the linear layer with weight (V R)^T and bias -mean V R; both are zero
    until :meth:`finish` finds them, and no gradient reaches them. All is computed in float64 on the CPU, so that it is
    the same wherever the features come from; outputs have the precision of the head.

    Ties: a bit is 1 where an output is more than 0, in training and in encoding alike. The paper takes sign(0) = +1
    in training; a component that is exactly 0 adds the same to the objective either way. Where features vary in
    fewer than ``bits`` directions, the directions left over are arbitrary and carry nothing.
    """

    name: ClassVar[str] = "itq"
    title: ClassVar[str] = "Iterative Quantization"
    source: ClassVar[str] = "Gong and Lazebnik, Iterative Quantization, CVPR 2011 and TPAMI 2013, equation 2"
    Settings = ITQSettings
    label_kinds = ("none", "ids", "multi-hot")
    # Nothing is trained: a network with random weights would only blur the features, and the paper centers them alone.
    recipe: ClassVar[Mapping[str, Any]] = {
        "encoder.backbone": "identity",
        "encoder.width": None,  # a fit needs features as they are, no layer that would have to be trained
        "data.standardize": False,
    }

    def __init__(self, settings: ITQSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.n_bits = self.n_outputs = self.complete(settings, spec.n_classes).bits
        if self.n_bits > spec.n_features:
            raise ValueError(
                f"bits must be at most {spec.n_features} (the number of features), got {self.n_bits}"
            )
        self.head = nn.Linear(spec.n_features, self.n_bits).requires_grad_(False)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """None: it is only fitted."""
        return ()

    def begin(self, training: Training) -> None:
        self._check_number(training.n_items)

    def finish(self, everything: Pass) -> None:
        """Fit the head. Raises ``ValueError`` where items are too few or features are not finite."""
        features = everything.features().detach().cpu()
        self._check_number(len(features))
        mean, directions = principal_directions(features, self.n_bits)
        projected = torch.cat([(rows.double() - mean) @ directions for rows in _chunks(features)])
        rotation = random_rotation(self.n_bits, everything.generator)
        for _ in range(self.settings.iterations):
            rotation = next_rotation(projected, rotation)
        weight = directions @ rotation
        with torch.no_grad():
            self.head.weight.copy_(weight.T)
            self.head.bias.copy_(-mean @ weight)

    def encode(self, outputs: Tensor) -> Tensor:
        return dshc_fast.pack_codes(outputs)

    def _check_number(self, n_items: int) -> None:
        if n_items <= self.n_bits:
            raise ValueError(
                f"itq must have at least {self.n_bits + 1} training items for {self.n_bits} bits (one more than bits, "
                f"for the mean takes one away), got {n_items}; take more items or fewer bits"
            )


def principal_directions(features: Tensor, n_directions: int) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and the first principal directions ``(d, n_directions)`` of ``features`` float ``(n, d)``.

    Float64, on the CPU. Directions are orthonormal, by falling variance; the entry of largest magnitude is positive,
    for an eigenvector's sign is arbitrary. Raises ``ValueError`` where features are not finite.
    """
    total: Any = sum(rows.double().sum(0) for rows in _chunks(features))
    mean = total / len(features)
    if not torch.isfinite(mean).all():
        raise ValueError("features must be finite, got NaN or infinity")
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for rows in _chunks(features):
        centered = rows.double() - mean
        scatter.addmm_(centered.T, centered)
    _, vectors = torch.linalg.eigh(scatter / len(features))
    directions = vectors.flip(1)[:, :n_directions]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return mean, directions * largest.sign()


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


def _chunks(features: Tensor) -> tuple[Tensor, ...]:
    return features.split(max(1, _CHUNK // features.shape[1]))
