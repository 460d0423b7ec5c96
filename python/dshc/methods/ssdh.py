"""SSDH: a classifier on top of a code of sigmoids, which are driven away from 1/2 and are balanced in every item.

Yang, Lin and Chen, *Supervised Learning of Semantics-Preserving Hash via Deep Convolutional Neural Networks*, TPAMI
2018 (arXiv 1507.00101). With a = sigmoid(u) the loss is E1 + forcing E2 + balance E3:

    E1 = mean_i loss(W a_i, y_i)    E2 = -1/2 mean_ik (a_ik - 1/2)^2    E3 = 1/2 mean_i (mean_k a_ik - 1/2)^2

where the loss of E1 is cross-entropy for one class per item, and a regression with a margin for several labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Spec, in_full
from .classifiers import ClassifierMethod, check_labels, cross_entropy_loss
from .signs import SignSettings

__all__ = ["SSDH", "SSDHLoss", "margin_regression"]


class SSDHSettings(SignSettings):
    """Settings of SSDH."""

    name: Literal["ssdh"] = "ssdh"
    forcing: float = setting(1.0, "weight of the distance of activations from 1/2", ge=0)
    balance: float = setting(1.0, "weight of how uneven the bits of an item are", ge=0)


class SSDHLoss(nn.Module):
    """The loss of some outputs under a classifier, as a module of its own.

    Scale: means as written above. Both weights are 1, as is E1's, in the released models for CIFAR-10; what is
    left of three weights beside a learning rate is two. E2 is in [-1/8, 0] and the loss may be negative. The
    exponents of E2 and E3, which the paper leaves open between 1 and 2, are 2, as in the authors' code.
    """

    def __init__(self, forcing: float = 1.0, balance: float = 1.0) -> None:
        super().__init__()
        for name, value in (("forcing", forcing), ("balance", balance)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        self.forcing, self.balance = forcing, balance

    def forward(self, outputs: Tensor, labels: Tensor, classifier: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss, 0-d, differentiable.

        Args:
            outputs: u float ``(b, L)``, before the sigmoid.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)`` (:func:`margin_regression`).
            classifier: from activations in (0, 1), ``(b, L)``, to class scores ``(b, C)``.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        if outputs.ndim != 2:
            raise ValueError(f"outputs must have shape (b, L), got {tuple(outputs.shape)}")
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            activations = outputs.sigmoid()
            scores = classifier(activations)
            loss = (
                cross_entropy_loss(scores, labels) if labels.ndim == 1 else margin_regression(scores, labels)
            )
            from_half = activations - 0.5
            return (
                loss
                - self.forcing * from_half.square().mean() / 2
                + self.balance * from_half.mean(1).square().mean() / 2
            )


class SSDH(ClassifierMethod):
    """SSDH. ``outputs`` are u, before the sigmoid: a bit is 1 where its activation is more than 1/2.

    The head's weights are drawn with deviation 0.01 (for 4,096 features), the classifier's with 0.2; biases are 0. The
    paper's learning rates of the new layers, 10 and 20 times that of the network, are left out: they set new layers
    apart from a network that was trained before, for which there is ``backbone_lr``. So is dropout in front of the
    head, which belongs to the network. With several labels per item, those are predicted whose score is nearer to 1
    than to 0.
    """

    name: ClassVar[str] = "ssdh"
    title: ClassVar[str] = "Supervised Semantics-preserving Deep Hashing"
    source: ClassVar[str] = (
        "Yang, Lin and Chen, Supervised Learning of Semantics-Preserving Hash, TPAMI 2018, arXiv 1507.00101"
    )
    Settings = SSDHSettings
    main_weight: ClassVar[str | None] = "forcing"

    def __init__(self, settings: SSDHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.class_loss = SSDHLoss(settings.forcing, settings.balance)
        # The paper's 0.01 stands behind 4,096 features; outputs of narrower ones start as large.
        nn.init.normal_(self.head.weight, std=0.01 * (4096 / spec.n_features) ** 0.5)
        nn.init.zeros_(self.head.bias)
        for layer in self.classifiers.values():
            nn.init.normal_(layer.weight, std=0.2)
            nn.init.zeros_(layer.bias)

    def visible(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def class_scores(self, outputs: Tensor) -> Tensor:
        scores = super().class_scores(outputs)
        return scores - 0.5 if self.spec.label_kind == "multi-hot" else scores

    def relaxed(self, outputs: Tensor) -> Tensor:
        """The activations, moved from (0, 1) to (-1, 1)."""
        return torch.tanh(self.transformed(outputs) / 2)


def margin_regression(scores: Tensor, labels: Tensor) -> Tensor:
    """A label's squared distance from 1 or 0, halved, and 0 beyond: summed over labels, the mean over items, 0-d.

    The paper's loss for several labels per item, max(0, 1 - s)^p / 2 for labels that are there and max(0, s)^p / 2 for
    the others, with p = 2 of its 1 and 2: the gradient then goes to 0 with the distance.

    ``scores`` float ``(b, C)``, ``labels`` multi-hot ``(b, C)``.
    """
    check_labels(scores, labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be multi-hot, of shape (b, C), got {tuple(labels.shape)}")
    missing = torch.where(labels.bool(), 1 - scores, scores).clamp(min=0)
    return missing.square().sum(1).mean() / 2
