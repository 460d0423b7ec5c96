"""SDSH: triplets on the unit sphere, and a rotation of it by which codes retrieve best.

Pidhorskyi, Jones, Motiian, Adjeroh and Doretto, *Deep Supervised Hashing with Spherical Embedding*, ACCV 2018. With
h = u / ||u|| and, for a triplet (q, p, n), delta = ||h_q - h_p||^2 - ||h_q - h_n||^2, which is in [-4, 4], the loss is
the mean over triplets of one of

    spring       (2 sqrt(2) - sqrt(4 - delta))^2
    likelihood   log(1 + exp(-L ((<h_q, h_p> - <h_q, h_n>) / 2 - m))) / L
    margin       max(delta + m, 0)

No term asks for outputs near their signs. Instead codes are the signs of R h, for the rotation R with the highest mAP
that a random search finds on the training items (:func:`~dshc.methods.postprocessing.map_rotation`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..settings import setting
from .base import Pass, Spec, Stage, in_full
from .likelihood import softplus
from .pairs import own_rows
from .postprocessing import map_rotation
from .triplets import GapLoss, TripletMethod, TripletSettings, triplet_mean

__all__ = ["SDSH", "SDSHLoss"]

SphericalLoss = Literal["spring", "likelihood", "margin"]
_MARGINS: dict[str, float | None] = {"spring": None, "likelihood": 0.5, "margin": 2.0}
_LEAST_NORM = 1e-6  # an output of 0 has no direction; its gradient stays finite
_ROTATED = "rotate"


class SDSHSettings(TripletSettings):
    """Settings of SDSH."""

    name: Literal["sdsh"] = "sdsh"
    loss: SphericalLoss = setting("spring", "loss of a triplet")
    margin: float | None = setting(
        None,
        "how far positives must be ahead of negatives (default: likelihood 0.5, margin 2; spring has none)",
        ge=0,
    )
    rotation_steps: int = setting(
        800,
        "rotations tried for every set of weights that is measured; 0, or several lengths: none",
        ge=0,
        le=10**6,
    )
    rotation_epochs: int | None = setting(
        None, "last epochs whose weights get a rotation (default: all; fewer take less time)", ge=1
    )


class SDSHLoss(nn.Module):
    """The loss of some outputs against each other, as a module of its own: the mean over all triplets of the batch.

    ``loss`` is "spring", "likelihood" or "margin"; ``margin`` is m of the latter two, None for the authors' 0.5 and 2.

    The spring is 0 where the positive is the query and the negative its antipode, and 8 the other way round. The
    poster has (2 - sqrt(2 - delta / 2))^2, which is half of it. It never saturates, and so goes on to push
    negatives apart; its derivative, which is infinite at its end, is kept below that of delta = 4 - 1e-8, where the
    authors' code stops too. The likelihood is that of DTSH for outputs of norm sqrt(L), over L.
    """

    def __init__(self, loss: SphericalLoss = "spring", margin: float | None = None) -> None:
        super().__init__()
        if loss not in _MARGINS:
            raise ValueError(f"loss must be one of {', '.join(_MARGINS)}, got {loss!r}")
        if margin is not None and loss == "spring":
            raise ValueError(f"margin must be left out with loss 'spring', which has none, got {margin}")
        if margin is not None and not 0 <= margin < float("inf"):
            raise ValueError(f"margin must be at least 0 and finite, got {margin}")
        self.loss = loss
        self.margin = _MARGINS[loss] if margin is None else margin

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        *,
        items: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = own_rows,
        own: slice = slice(None),
    ) -> Tensor:
        """The loss, 0-d, differentiable once, of ``outputs`` u float ``(b, L)``, whose lengths do not count.

        ``labels``: class ids int64 ``(b,)`` or multi-hot ``(b, C)``. ``items``, ``gather`` and ``own``: as in
        :func:`~dshc.methods.triplets.triplet_mean`, which states cost, precision and errors too. A row shorter
        than 1e-6 is divided by that instead of its length.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            directions = normalize(outputs, dim=-1, eps=_LEAST_NORM)
        return triplet_mean(
            directions, labels, self._of_gaps(outputs.shape[-1]), items=items, gather=gather, own=own
        )

    def _of_gaps(self, n_bits: int) -> GapLoss:
        if self.loss == "spring":
            return _spring
        if self.loss == "likelihood":
            return functools.partial(_likelihood, margin=self.margin, n_bits=n_bits)
        return functools.partial(_margin, margin=self.margin)


class SDSH(TripletMethod):
    """SDSH. The head is linear; lengths of outputs do not count.

    Every set of weights that may be saved gets a rotation of its own before it is validated: ``rotation_steps`` are
    tried on up to 2,000 queries and 16,000 database items, both of the training items. That takes a pass over these
    and some seconds per epoch. ``rotation_epochs`` leaves out the earlier epochs: they are measured, and may be
    selected, without a rotation. Codes of several ``lengths`` are not rotated, for a rotation mixes all bits.
    """

    name: ClassVar[str] = "sdsh"
    title: ClassVar[str] = "Spherical Deep Supervised Hashing"
    source: ClassVar[str] = (
        "Pidhorskyi, Jones, Motiian, Adjeroh and Doretto, Deep Supervised Hashing with Spherical Embedding, ACCV 2018"
    )
    Settings = SDSHSettings
    label_kinds = ("ids", "multi-hot")
    # Between the authors' 0.07, which is without momentum, and what comes to the same with it.
    recipe: ClassVar[Mapping[str, Any]] = {"optim.optimizer": "sgd", "optim.lr": 0.03}

    def __init__(self, settings: SDSHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.triplet_loss = SDSHLoss(settings.loss, settings.margin)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """One, or with ``rotation_epochs`` two: only the weights of the second are rotated."""
        last = self.settings.rotation_epochs
        if last is None or not self._rotates:
            return super().stages(epochs)
        rotated = Stage(_ROTATED, epochs=min(last, epochs))
        return (Stage("train", epochs=epochs - last), rotated) if last < epochs else (rotated,)

    def finish(self, everything: Pass) -> None:
        """Find the rotation of the weights as they are; earlier epochs than the last ``rotation_epochs`` have none."""
        if not self._rotates:
            return
        if self.settings.rotation_epochs is not None and everything.stage != _ROTATED:
            self.set_transform()
            return
        rotation = map_rotation(
            everything.outputs(), everything.labels, everything.generator, steps=self.settings.rotation_steps
        )
        self.set_transform(rotation=rotation)

    @property
    def _rotates(self) -> bool:
        return self.settings.rotation_steps > 0 and len(self.lengths) == 1


# delta is -2 gap: both items are of length 1.


def _spring(gaps: Tensor) -> tuple[Tensor, Tensor]:
    root = (4 + 2 * gaps).clamp_(min=0).sqrt_()  # rounding may take it below 0
    short = 2 * math.sqrt(2) - root
    return short.square(), -2 * short / root.clamp(min=1e-4)


def _likelihood(gaps: Tensor, *, margin: float, n_bits: int) -> tuple[Tensor, Tensor]:
    behind = n_bits * (margin - gaps / 2)
    return softplus(behind) / n_bits, torch.sigmoid(behind).mul_(-0.5)


def _margin(gaps: Tensor, *, margin: float) -> tuple[Tensor, Tensor]:
    behind = margin - 2 * gaps
    return behind.clamp(min=0), torch.where(behind > 0, -2.0, 0.0).to(gaps.dtype)
