"""DCWH: outputs near the center of their class, by a Gaussian for every class, and inside a cube.

Zhe, Chen and Yan, *Deep Class-Wise Hashing: Semantics-Preserving Hashing via Class-wise Loss*, arXiv 1803.04137. With
the centers mu of the classes,

    p(c | u) = exp(-||u - mu_c||^2 / (2 sigma^2)) / sum_j exp(-||u - mu_j||^2 / (2 sigma^2))

and the loss, as the code of later papers from the same authors has it (mzhang367/dcwh and hpdh), is

    mean_i [ -log p(y_i | u_i) ]  +  mean_ik [ cube max(|u_ik| - slack, 0)  +  vertex (sign(u_ik) - u_ik)^2 ]

A first stage establishes the classes without the term of the vertices, a second one refines the outputs with it. The
centers are the means of the outputs of all training items, computed anew every few epochs and constant in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import LabelKind, Pass, Spec, Stage, Step, in_full
from .centers import check_batch
from .class_means import class_means
from .classifiers import ClasswiseMethod, softmax_loss
from .itq import signs
from .signs import SignSettings

__all__ = ["DCWH", "DCWHLoss"]

_ESTABLISH, _REFINE = "establish", "refine"


class DCWHSettings(SignSettings):
    """Settings of DCWH."""

    name: Literal["dcwh"] = "dcwh"
    inverse_variance: float = setting(0.5, "1 / sigma^2 of the Gaussian of every class", gt=0)
    cube: float = setting(10.0, "weight of how far outputs are outside of the cube", ge=0)
    vertex: float = setting(0.1, "weight of the distance from the cube's vertices, in the second stage", ge=0)
    slack: float = setting(1.1, "half of the cube's edge", gt=0)
    period: int = setting(2, "epochs from one computation of the classes' centers to the next", ge=1)
    refine: float = setting(0.5, "share of the epochs that are the second stage", ge=0, le=1)


class DCWHLoss(nn.Module):
    """The loss of some outputs for given centers, as a module of its own.

    Scale: all terms are means over items; those of the cube and its vertices are means over bits too. Defaults:
    ``inverse_variance`` 0.5, ``cube`` 10 and ``slack`` 1.1 as in dcwh; ``vertex`` 0.1 as in hpdh, which divides as
    here. Both codes add a small number to the ratio of densities, by which outputs far from their center lose their
    gradient; this is a log-soft-max.
    """

    def __init__(
        self, inverse_variance: float = 0.5, cube: float = 10.0, vertex: float = 0.1, slack: float = 1.1
    ) -> None:
        super().__init__()
        for name, value in (("inverse_variance", inverse_variance), ("slack", slack)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be more than 0 and finite, got {value}")
        for name, value in (("cube", cube), ("vertex", vertex)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        self.inverse_variance, self.cube, self.vertex, self.slack = inverse_variance, cube, vertex, slack

    def forward(self, outputs: Tensor, labels: Tensor, centers: Tensor, *, refine: bool = True) -> Tensor:
        """The loss, 0-d, differentiable in ``outputs`` and, where they require it, ``centers``.

        Args:
            outputs: float ``(b, L)``.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``, for which -log p is averaged over an item's
                labels; an item without labels has no class-wise term.
            centers: float ``(C, L)``.
            refine: with the term of the vertices.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        check_batch(outputs, labels, centers)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            loss = softmax_loss(self.scores(outputs, centers), labels)
            loss = loss + self.cube * (outputs.abs() - self.slack).clamp(min=0).mean()
            if refine:
                loss = loss + self.vertex * (signs(outputs.detach()) - outputs).square().mean()
            return loss

    def scores(self, outputs: Tensor, centers: Tensor) -> Tensor:
        """log p(c | u) of every class up to what is equal for all, ``(b, C)``; the highest is of the nearest center.

        ||u||^2 is the same for all classes and left out: it would take the digits that tell them apart.
        """
        centers = centers.to(outputs.dtype)
        return self.inverse_variance * (outputs @ centers.T - centers.square().sum(1) / 2)


class DCWH(ClasswiseMethod):
    """DCWH. The head is linear, drawn by Xavier's normal rule with biases 0; outputs have no tanh.

    Centers start as draws of a normal distribution and are computed before the epochs ``period``, 2 ``period`` and so
    on, counted from 0. A class without items keeps its center. The second stage is the last ``refine`` of the epochs,
    rounded down: a training of one epoch has only the first stage. The predicted class is that of the nearest center;
    of several labels per item none are predicted, for p compares labels and says of none whether it is there.

    The paper gives no loss for several labels; the mean over them is the usual one.
    """

    name: ClassVar[str] = "dcwh"
    title: ClassVar[str] = "Deep Class-Wise Hashing"
    source: ClassVar[str] = "Zhe, Chen and Yan, Deep Class-Wise Hashing, arXiv 1803.04137"
    Settings = DCWHSettings
    qualities: ClassVar[Mapping[LabelKind, str]] = {"ids": "accuracy"}
    main_weight: ClassVar[str | None] = "vertex"
    # Outputs move with the centers that they make; adamw's even steps take many more epochs for that.
    recipe: ClassVar[Mapping[str, Any]] = {"optim.optimizer": "sgd", "optim.lr": 0.1}

    def __init__(self, settings: DCWHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.class_loss = DCWHLoss(settings.inverse_variance, settings.cube, settings.vertex, settings.slack)
        random = torch.Generator().manual_seed(spec.seed)
        # The first bits of a mean are the mean of the first bits: one table serves all lengths.
        self.register_buffer("centers", torch.randn(spec.n_classes, self.n_bits, generator=random))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        # A float is what its shortest decimal says: 0.29 of 100 is 29.
        n_refined = int(epochs * Fraction(repr(float(self.settings.refine))))
        lengths = ((_ESTABLISH, epochs - n_refined), (_REFINE, n_refined))
        return tuple(Stage(name, epochs=length) for name, length in lengths if length)

    def begin_epoch(self, everything: Pass) -> None:
        """Computes the centers every ``period`` epochs; epochs before the first time have those of the start."""
        if everything.epoch == 0 or everything.epoch % self.settings.period:
            return
        means, there = class_means(everything.outputs(), everything.labels, self.spec.n_classes)
        known = there.to(self.centers.device)
        self.centers[known] = means[there].to(self.centers)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`DCWHLoss`, with the vertices in the second stage alone."""
        centers = self.centers[:, : outputs.shape[1]]
        return self.class_loss(outputs, step.labels, centers, refine=step.stage == _REFINE)

    def class_scores(self, outputs: Tensor) -> Tensor:
        return self.class_loss.scores(outputs.to(self.centers.dtype), self.centers)
