"""DSHC for multi-label data: the predicted labels are the code.

Luo et al., *Deep Supervised Hashing by Classification*, equation 3: binary cross-entropy, one output and one
bit a label. Codes are compared by the number of labels predicted for both items (``score="overlap"``), not by
Hamming distance: relevance is a shared label, and two items that both lack a label share nothing by it.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import dshc_fast

from ..codebooks import MAX_BITS, Codebook
from ..config import Config
from .base import Method

__all__ = ["DSHCMultiLabel"]


class DSHCMultiLabel(Method):
    """DSHC over ``n_labels`` labels; a label is predicted where its logit is more than ``threshold``."""

    name: ClassVar[str] = "dshc-multilabel"
    multilabel: ClassVar[bool] = True
    score: ClassVar[str] = "overlap"
    quality: ClassVar[str] = "micro_f1"

    def __init__(self, n_labels: int, *, threshold: float = 0.0) -> None:
        super().__init__()
        if n_labels < 1:
            raise ValueError(f"n_labels: got {n_labels}, expected at least 1")
        self.n_bits = self.n_outputs = n_labels
        self.threshold = threshold

    @classmethod
    def build(cls, config: Config, n_classes: int, *, codebook: Codebook | None = None) -> Self:
        if config.bits not in (None, n_classes):
            raise ValueError(f"bits: got {config.bits}, {cls.name} takes one bit a label, here {n_classes}")
        if n_classes > MAX_BITS:
            raise ValueError(
                f"bits: {cls.name} takes one bit a label and at most {MAX_BITS}, got {n_classes} labels"
            )
        if config.subclass != "uniform":
            raise ValueError(f"subclass: got {config.subclass!r}, {cls.name} has no sub-classes")
        if codebook is not None:
            raise ValueError(f"codebook: {cls.name} takes none, its labels are its bits")
        return cls(n_classes, threshold=config.label_threshold)

    def loss(self, outputs: Tensor, labels: Tensor, items: Tensor | None = None) -> Tensor:
        return binary_cross_entropy_with_logits(outputs, labels.to(outputs.dtype))

    def encode(self, outputs: Tensor) -> Tensor:
        return dshc_fast.multilabel_codes(outputs, self.threshold)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs > self.threshold

    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """The parts of micro F1: twice the labels both predicted and true, and labels predicted plus true."""
        labels = labels.bool()
        return torch.stack([2 * (predictions & labels).sum(), predictions.sum() + labels.sum()])
