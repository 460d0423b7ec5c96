"""OrthoHash: a soft-max over the angles to the centers, and nothing else.

Hoe, Ng, Zhang, Chan, Song and Xiang, *One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning
Objective*, NeurIPS 2021, section 3. With cos_c the cosine of the angle between u and the center of class c
(:mod:`.centers`) the loss is

    - log softmax_y( s (cos_c - m [c = y]) )

A center is a corner of the cube, so that a small angle to it means outputs of one size: codes lose little to rounding
without a term that asks for it. Batch normalisation in the head keeps every bit balanced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Spec, Step, in_full
from .centers import (
    CenterMethod,
    CenterSettings,
    check_batch,
    cosines,
    label_shares,
    labelled_mean,
)
from .pairs import own_rows

__all__ = ["OrthoHash", "OrthoHashLoss", "margin_losses", "normalized_head"]


class OrthoHashSettings(CenterSettings):
    """Settings of OrthoHash."""

    name: Literal["orthohash"] = "orthohash"
    scale: float = setting(8.0, "factor of the cosines in the soft-max", gt=0)
    margin: float = setting(0.2, "what is subtracted from the cosine of the true class", ge=0)


def margin_losses(cosines: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """Cross-entropy of ``scale`` (cosines - margin [label]), ``(b,)``; 0 for an item without labels.

    ``cosines`` float ``(b, C)``; ``labels`` class ids int64 ``(b,)`` or multi-hot ``(b, C)``. Several labels get equal
    shares of the target, and the margin each.
    """
    shares = label_shares(labels, cosines.shape[1], cosines.dtype)
    logits = scale * (cosines - margin * (shares > 0).to(cosines.dtype))
    return -(shares * torch.log_softmax(logits, dim=1)).sum(dim=1)


class OrthoHashLoss(nn.Module):
    """The loss of some outputs against centers, as a module of its own.

    The mean over items. ``scale`` s = 8 and ``margin`` m = 0.2 are those of the authors' released code for ImageNet and
    NUS-WIDE; for CIFAR-10 it takes m = 0.3.
    """

    def __init__(self, scale: float = 8.0, margin: float = 0.2) -> None:
        super().__init__()
        check_softmax(scale, margin)
        self.scale, self.margin = scale, margin

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        centers: Tensor,
        *,
        gather: Callable[[Tensor], Tensor] = own_rows,
    ) -> Tensor:
        """The loss, 0-d.

        Args:
            outputs: u, float ``(b, L)``; their lengths do not count, and a row of 0 has cosines 0 and no gradient.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``; rows without labels are left out.
            centers: -1 and 1, ``(C, L)``.
            gather: the rows of all processes; counts the rows with labels.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        check_batch(outputs, labels, centers)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            cosine = cosines(outputs, centers.to(outputs.dtype))
            losses = margin_losses(cosine, labels, self.scale, self.margin)
            return labelled_mean(losses, labels, gather)


class OrthoHash(CenterMethod):
    """OrthoHash. The head is linear, without a bias and drawn with deviation 0.01; batch normalisation follows.

    The paper's centers are "random"; its code has "rejected" too, which it finds 1 to 2 % better.
    """

    name: ClassVar[str] = "orthohash"
    title: ClassVar[str] = "One Loss for All: deep hashing with a single cosine similarity"
    source: ClassVar[str] = "Hoe et al., One Loss for All, NeurIPS 2021, section 3"
    Settings = OrthoHashSettings
    main_weight: ClassVar[str | None] = "scale"
    recipe: ClassVar[Mapping[str, Any]] = {
        "optim.clip_norm": 0.5
    }  # without it, networks from scratch start badly

    def __init__(self, settings: OrthoHashSettings, spec: Spec, centers: Tensor | None = None) -> None:
        super().__init__(settings, spec, centers)
        self.head = normalized_head(spec.n_features, self.n_bits)
        self.center_loss = OrthoHashLoss(settings.scale, settings.margin)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`OrthoHashLoss` against the first bits of the centers."""
        centers = self.centers[:, : outputs.shape[1]]
        return self.center_loss(outputs, step.labels, centers, gather=step.gather)


def normalized_head(n_features: int, n_bits: int, *, bias: bool = False) -> nn.Sequential:
    """A linear layer, its weights drawn with deviation 0.01 and its bias 0, and batch normalisation."""
    linear = nn.Linear(n_features, n_bits, bias=bias)
    nn.init.normal_(linear.weight, std=0.01)
    if bias:
        nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.BatchNorm1d(n_bits))


def check_softmax(scale: float, margin: float) -> None:
    """Refuse factors and margins that are none."""
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be more than 0 and finite, got {scale}")
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin must be at least 0 and finite, got {margin}")
