"""A classifier with a narrow layer in front, whose signs are codes: what supervision gives without a loss for hashing.

Cross-entropy of W u for the outputs u of a linear layer, which are not told to be near their signs: the floor under all
supervised methods. Such baselines are in most comparisons, e.g. CE in the tables of cisip-FIRe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from .base import Spec, in_full
from .classifiers import ClassifierMethod, cross_entropy_loss
from .signs import SignSettings

__all__ = ["CrossEntropy", "CrossEntropyLoss"]


class CrossEntropySettings(SignSettings):
    """Settings of the baseline."""

    name: Literal["cross_entropy"] = "cross_entropy"


class CrossEntropyLoss(nn.Module):
    """The loss of some outputs under a classifier, as a module of its own.

    For class ids the cross-entropy of a soft-max, a mean over items; for multi-hot labels that of a sigmoid per label,
    a mean over items and labels.
    """

    def forward(self, outputs: Tensor, labels: Tensor, classifier: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss, 0-d, differentiable.

        ``outputs`` u float ``(b, L)``; ``labels`` class ids int64 ``(b,)`` or multi-hot ``(b, C)``; ``classifier`` from
        outputs to class scores ``(b, C)``. float16 and bfloat16 are computed in float32. Raises ``ValueError`` where
        shapes do not fit.
        """
        if outputs.ndim != 2:
            raise ValueError(f"outputs must have shape (b, L), got {tuple(outputs.shape)}")
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            return cross_entropy_loss(classifier(outputs), labels)


class CrossEntropy(ClassifierMethod):
    """The baseline: head and classifier are linear, with nothing in between."""

    name: ClassVar[str] = "cross_entropy"
    title: ClassVar[str] = "Cross-entropy, signs of the layer before the classes"
    source: ClassVar[str] = "baseline: a classifier with one linear layer of as many outputs as bits"
    Settings = CrossEntropySettings

    def __init__(self, settings: CrossEntropySettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.class_loss = CrossEntropyLoss()

    def visible(self, outputs: Tensor) -> Tensor:
        return outputs
