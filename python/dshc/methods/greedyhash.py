"""GreedyHash: a classifier on the code itself, whose gradient passes the sign as if that were not there.

Su, Zhang, Han and Tian, *Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN*, NeurIPS 2018. With
b = sign(u) on the way forward, and the gradient by b taken as that by u on the way back, the loss is

    cross-entropy(W b, y)  +  eta mean_ik | |u_ik| - 1 |^3

where eta is the paper's alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Spec, in_full
from .classifiers import ClassifierMethod, cross_entropy_loss
from .itq import signs
from .signs import SignSettings

__all__ = ["GreedyHash", "GreedyHashLoss", "straight_through_sign"]


class GreedyHashSettings(SignSettings):
    """Settings of GreedyHash."""

    name: Literal["greedyhash"] = "greedyhash"
    eta: float = setting(0.1, "weight of the distance of outputs from their signs", ge=0)


class GreedyHashLoss(nn.Module):
    """The loss of some outputs under a classifier, as a module of its own.

    Scale: cross-entropy as :func:`~dshc.methods.classifiers.cross_entropy_loss` has it, and ``eta`` times a mean over
    items and bits. ``eta`` is 0.1, the paper's alpha for CIFAR-10; for ImageNet it has 1. The paper has one class
    an item; with several labels the classifier decides every label by a sigmoid.
    """

    def __init__(self, eta: float = 0.1) -> None:
        super().__init__()
        if not 0 <= eta < float("inf"):
            raise ValueError(f"eta must be at least 0 and finite, got {eta}")
        self.eta = eta

    def forward(self, outputs: Tensor, labels: Tensor, classifier: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss, 0-d; its gradient by ``outputs`` is the one described above, no derivative of the loss.

        Args:
            outputs: u float ``(b, L)``.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``.
            classifier: from codes of -1 and 1, ``(b, L)``, to class scores ``(b, C)``.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        if outputs.ndim != 2:
            raise ValueError(f"outputs must have shape (b, L), got {tuple(outputs.shape)}")
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            loss = cross_entropy_loss(classifier(straight_through_sign(outputs)), labels)
            return loss + self.eta * (outputs.abs() - 1).abs().pow(3).mean()


class GreedyHash(ClassifierMethod):
    """GreedyHash. Head and classifier are linear. The prediction is the classifier's, from the signs of the outputs."""

    name: ClassVar[str] = "greedyhash"
    title: ClassVar[str] = "Greedy Hash"
    source: ClassVar[str] = "Su, Zhang, Han and Tian, Greedy Hash, NeurIPS 2018"
    Settings = GreedyHashSettings
    main_weight: ClassVar[str | None] = "eta"

    def __init__(self, settings: GreedyHashSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.class_loss = GreedyHashLoss(settings.eta)

    def visible(self, outputs: Tensor) -> Tensor:
        return signs(outputs)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor) -> Tensor:
        return signs(outputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream


def straight_through_sign(outputs: Tensor) -> Tensor:
    """1 where an output is more than 0, else -1; the gradient passes unchanged."""
    return _Sign.apply(outputs)
