"""DSHC for multi-label data: the predicted labels are the code.

Luo et al., *Deep Supervised Hashing by Classification*, equation 3: binary cross-entropy, one output and one bit a
label. Codes are compared by the number of labels predicted for both items (``score="overlap"``), not by Hamming
distance: relevance is a shared label, and two items that both lack a label share nothing by it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import dshc_fast

from ..settings import setting
from .base import MAX_BITS, Method, MethodSettings, Spec, Step, count_labels

__all__ = ["DSHCMultiLabel"]


class DSHCMultiLabelSettings(MethodSettings):
    """Settings of DSHC for multi-label data."""

    name: Literal["dshc-multilabel"] = "dshc-multilabel"
    bits: int | None = setting(None, "code length: one bit per label", ge=1, le=MAX_BITS)
    label_threshold: float = setting(0.0, "logit above which a label is predicted")
    label_smoothing: float = setting(
        0.0, "targets are moved from 0 and 1 towards 1/2 by this share", ge=0, lt=1
    )


class DSHCMultiLabel(Method):
    """A bit per label; a label is predicted where its logit is more than ``label_threshold``."""

    name: ClassVar[str] = "dshc-multilabel"
    title: ClassVar[str] = "Deep Supervised Hashing by Classification, several labels per item"
    source: ClassVar[str] = "Luo et al., Deep Supervised Hashing by Classification, section 3.4, equation 3"
    Settings = DSHCMultiLabelSettings
    label_kinds = ("multi-hot",)
    score: ClassVar[str] = "overlap"
    quality: ClassVar[str | None] = "micro_f1"
    bit_per_label: ClassVar[bool] = True

    def __init__(self, settings: DSHCMultiLabelSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        n_labels = spec.n_classes
        if settings.bits not in (None, n_labels):
            raise ValueError(
                f"bits must be {n_labels} for {self.name} (one bit per label), got {settings.bits}"
            )
        if n_labels > MAX_BITS:
            raise ValueError(
                f"{self.name} must have at most {MAX_BITS} labels (one bit per label), got {n_labels}"
            )
        self.n_bits = self.n_outputs = n_labels
        self.head = nn.Linear(spec.n_features, n_labels)

    @classmethod
    def defaults(cls, settings: Any, n_classes: int) -> dict[str, Any]:
        return {"bits": n_classes}

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        targets = step.labels.to(outputs.dtype)
        if share := self.settings.label_smoothing:
            targets = targets * (1 - share) + share / 2
        return binary_cross_entropy_with_logits(outputs, targets)

    def encode(self, outputs: Tensor) -> Tensor:
        return dshc_fast.multilabel_codes(outputs, self.settings.label_threshold)

    def relaxed(self, outputs: Tensor) -> Tensor:
        """The labels' probabilities: by them rankings of overlap are."""
        return outputs.float().sigmoid()

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs > self.settings.label_threshold

    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return count_labels(predictions, labels)
