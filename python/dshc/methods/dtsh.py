"""DTSH: the likelihood of triplets, by how far the positive is ahead of the negative.

Wang, Shi and Kitani, *Deep Supervised Hashing with Triplet Labels*, ACCV 2016 (arXiv 1612.03900). With
theta_ij = <u_i, u_j> / 2 the loss is

    sum over (q, p, n) of log(1 + exp(-(theta_qp - theta_qn - alpha)))  +  lambda sum_i || sign(u_i) - u_i ||^2

over queries q, items p that share a class or a label with q, and items n that share none. Here alpha is called
``margin`` and lambda ``eta``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Spec
from .dpsh import DPSH
from .itq import signs
from .likelihood import softplus
from .pairs import own_rows
from .triplets import TripletMethod, TripletSettings, triplet_mean

__all__ = ["DTSH", "DTSHLoss"]

_ETA = 0.0044


class DTSHSettings(TripletSettings):
    """Settings of DTSH."""

    name: Literal["dtsh"] = "dtsh"
    eta: float = setting(_ETA, "weight of the distance of outputs from their signs", ge=0)
    margin: float | None = setting(
        None, "how far positives must be ahead of negatives (default: bits / 2)", ge=0
    )


class DTSHLoss(nn.Module):
    """The loss of some outputs against each other, as a module of its own.

    Scale: the mean over all triplets of the batch, and ``eta`` times the mean over items of the squared distance from
    their signs, summed over bits. The authors' released code (Minione/DTSH, CIFAR-10) sums 22,500 triplets per
    query and takes lambda = 100, which makes ``eta`` 100 / 22,500 = 0.0044. ``margin`` is alpha; None for L / 2, half
    of the largest gap of codes, as there.

    That code draws positives and negatives from stored outputs and changes the query alone. Here all of them are of
    the batch, and all get their gradient, as the formula has it.
    """

    def __init__(self, eta: float = _ETA, margin: float | None = None) -> None:
        super().__init__()
        for name, value in (("eta", eta), ("margin", margin)):
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        self.eta, self.margin = eta, margin

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        *,
        items: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = own_rows,
        own: slice = slice(None),
    ) -> Tensor:
        """The loss, 0-d, differentiable once, of ``outputs`` float ``(b, L)``.

        ``labels``: class ids int64 ``(b,)`` or multi-hot ``(b, C)``. ``items``, ``gather`` and ``own``: as in
        :func:`~dshc.methods.triplets.triplet_mean`, which states cost, precision and errors too. Without a
        triplet the distance from signs is left.
        """
        margin = outputs.shape[-1] / 2 if self.margin is None else self.margin
        loss = functools.partial(_likelihood, margin=margin)
        likelihood = triplet_mean(outputs, labels, loss, items=items, gather=gather, own=own)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = outputs.to(likelihood.dtype)
            distance = (signs(outputs.detach()) - outputs).square().sum() / max(len(outputs), 1)
            return likelihood + self.eta * distance


class DTSH(TripletMethod):
    """DTSH. Outputs have no tanh."""

    name: ClassVar[str] = "dtsh"
    title: ClassVar[str] = "Deep Supervised Hashing with Triplet Labels"
    source: ClassVar[str] = (
        "Wang, Shi and Kitani, Deep Supervised Hashing with Triplet Labels, ACCV 2016, section 3"
    )
    Settings = DTSHSettings
    label_kinds = ("ids", "multi-hot")
    main_weight: ClassVar[str | None] = "eta"
    # As DPSH: outputs begin near 0, where a gap hardly pulls.
    recipe = DPSH.recipe

    def __init__(self, settings: DTSHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.triplet_loss = DTSHLoss(settings.eta, settings.margin)


def _likelihood(gaps: Tensor, *, margin: float) -> tuple[Tensor, Tensor]:
    """softplus(margin - gap / 2): theta is half of an inner product."""
    behind = margin - gaps / 2
    return softplus(behind), torch.sigmoid(behind).mul_(-0.5)
