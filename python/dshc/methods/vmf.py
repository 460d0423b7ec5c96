"""vMF: outputs as directions, near the direction of their class by a von Mises-Fisher distribution for every class.

Zhe, Chen and Yan, *Directional Statistics-based Deep Metric Learning for Image Classification and Retrieval*, Pattern
Recognition 93, 2019 (arXiv 1802.09662). With z = u / ||u|| and the unit-length directions mu of the classes,

    p(c | z) = exp(kappa <mu_c, z>) / sum_j exp(kappa <mu_j, z>),    loss = mean_i [ -log p(y_i | z_i) ]

for one concentration kappa of all classes. mu_c is the normalised sum of z over all training items of class c, computed
anew every few epochs and constant in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..settings import setting
from .base import LabelKind, Pass, Spec, Step, in_full
from .centers import directions as unit_length
from .class_means import class_sums
from .classifiers import ClasswiseMethod, softmax_loss
from .signs import SignSettings

__all__ = ["VMF", "VMFLoss"]

_LEAST_NORM = 1e-6  # a shorter sum has no direction


class VMFSettings(SignSettings):
    """Settings of vMF."""

    name: Literal["vmf"] = "vmf"
    kappa: float = setting(15.0, "concentration of items around the direction of their class", gt=0)
    period: int = setting(2, "epochs from one computation of the classes' centers to the next", ge=1)


class VMFLoss(nn.Module):
    """The loss of some outputs for given directions, as a module of its own.

    A mean over items. ``kappa`` is fixed; 15 is what a public implementation of the paper is configured with, the
    paper's own number was not to be had.
    """

    def __init__(self, kappa: float = 15.0) -> None:
        super().__init__()
        if not 0 < kappa < float("inf"):
            raise ValueError(f"kappa must be more than 0 and finite, got {kappa}")
        self.kappa = kappa

    def forward(self, outputs: Tensor, labels: Tensor, directions: Tensor) -> Tensor:
        """The loss, 0-d, differentiable in ``outputs``.

        Args:
            outputs: u float ``(b, L)``; of any length, which does not count. A row shorter than 1e-6 has no
                direction: it counts as 0 and gets no gradient.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``, for which -log p is averaged over an item's
                labels; an item without labels adds 0.
            directions: float ``(C, L)``, of unit length.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        if outputs.ndim != 2 or directions.ndim != 2 or outputs.shape[1] != directions.shape[1]:
            raise ValueError(
                "outputs and directions must have shapes (b, L) and (C, L), got "
                f"{tuple(outputs.shape)} and {tuple(directions.shape)}"
            )
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            cosines = unit_length(outputs) @ directions.to(outputs.dtype).T
            return softmax_loss(self.kappa * cosines, labels)


class VMF(ClasswiseMethod):
    """vMF. The head is linear; lengths of outputs do not count.

    Directions are computed before the epochs 0, ``period``, 2 ``period`` and so on; the first are those of the network
    as it starts. A class without items, or whose items cancel out, keeps its direction; it starts with a random one.
    The predicted class is that of the nearest direction; of several labels per item none are predicted, as with DCWH.

    The paper is about one class per item and about retrieval by cosine. The codes are the signs of the outputs: among
    codes, the order by cosine is that by Hamming distance.
    """

    name: ClassVar[str] = "vmf"
    title: ClassVar[str] = "Directional Statistics-based Deep Metric Learning, vMF loss"
    source: ClassVar[str] = (
        "Zhe, Chen and Yan, Directional Statistics-based Deep Metric Learning, Pattern Recognition 93, 2019"
    )
    Settings = VMFSettings
    qualities: ClassVar[Mapping[LabelKind, str]] = {"ids": "accuracy"}
    main_weight: ClassVar[str | None] = "kappa"
    # As DCWH.
    recipe: ClassVar[Mapping[str, Any]] = {"optim.optimizer": "sgd", "optim.lr": 0.1}

    def __init__(self, settings: VMFSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        self.class_loss = VMFLoss(settings.kappa)
        random = torch.Generator().manual_seed(spec.seed)
        # The first bits of a direction are no direction of the first bits: a table for every length.
        for length in self.lengths:
            start = normalize(torch.randn(spec.n_classes, length, generator=random))
            self.register_buffer(_name(length), start)

    def directions(self, n_bits: int) -> Tensor:
        """Of the classes, for codes of one of ``lengths``: float ``(n_classes, n_bits)``, of unit length."""
        return self.get_buffer(_name(n_bits))

    def begin_epoch(self, everything: Pass) -> None:
        """Computes the directions every ``period`` epochs, first before the epoch 0."""
        if everything.epoch % self.settings.period:
            return
        outputs = everything.outputs()
        for length in self.lengths:
            rows = unit_length(outputs[:, :length])
            sums, _ = class_sums(rows, everything.labels, self.spec.n_classes)
            directions = self.directions(length)
            known = sums.norm(dim=1) > _LEAST_NORM
            directions[known.to(directions.device)] = normalize(sums[known]).to(directions)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`VMFLoss` by the directions of that length."""
        return self.class_loss(outputs, step.labels, self.directions(outputs.shape[1]))

    def class_scores(self, outputs: Tensor) -> Tensor:
        directions = self.directions(self.n_bits)
        return outputs.to(directions.dtype) @ directions.T


def _name(length: int) -> str:
    return f"directions_{length}"
