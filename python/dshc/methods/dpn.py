"""DPN: every bit is polarized, pushed beyond a margin on the side that its class asks for.

Fan, Ng, Ju, Zhang and Chan, *Deep Polarized Network for Supervised Learning of Accurate Binary Hashing Codes*, IJCAI
2020, section 3. With the center t in {-1, 1}^L of an item's class (:mod:`.centers`) the loss is

    mean over items of  sum over bits of  max(m - u_k t_k, 0)

A bit beyond the margin m costs nothing and gets no gradient, so that the loss has an end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Pass, Spec, Step, in_full
from .centers import (
    CenterMethod,
    CenterSettings,
    check_batch,
    labelled_mean,
)
from .class_means import class_sums
from .itq import signs
from .pairs import own_rows

__all__ = ["DPN", "DPNLoss"]


class DPNSettings(CenterSettings):
    """Settings of DPN."""

    name: Literal["dpn"] = "dpn"
    margin: float = setting(1.0, "how far outputs must be on the side of their center", gt=0)
    update_every: int | None = setting(
        None, "epochs between updates of centers to the mean codes of their classes (default: never)", ge=1
    )


class DPNLoss(nn.Module):
    """The loss of some outputs against centers, as a module of its own.

    The sum over bits and the mean over items, as in the authors' released code (kamwoh/DPN); m = 1 is the paper's. An
    item of several labels costs the sum of what it costs for each of them, as in that code: bits on which its labels
    agree count once for each. (DeepHash-pytorch takes the majority of the labels instead, and the mean over bits.)
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        if not 0 < margin < float("inf"):
            raise ValueError(f"margin must be more than 0 and finite, got {margin}")
        self.margin = margin

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
            outputs: u, float ``(b, L)``.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``; rows without labels are left out.
            centers: -1 and 1, ``(C, L)``.
            gather: the rows of all processes; counts the rows with labels.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        check_batch(outputs, labels, centers)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            # How many of an item's labels want a bit to be 1, and how many -1.
            positive, negative = ((side * centers > 0).to(outputs.dtype) for side in (1, -1))
            if labels.ndim == 1:
                positive, negative = positive[labels], negative[labels]
            else:
                hot = labels.to(outputs.dtype)
                positive, negative = hot @ positive, hot @ negative
            short_of_1, short_of_minus_1 = ((self.margin - side * outputs).clamp(min=0) for side in (1, -1))
            losses = (positive * short_of_1 + negative * short_of_minus_1).sum(dim=1)
            return labelled_mean(losses, labels, gather)


class DPN(CenterMethod):
    """DPN. The head is linear; the paper's centers are "random".

    With ``update_every`` (the paper's DPN-A) every center becomes the sign of the mean code of its class's items after
    so many epochs; a bit that is tied, or a class without items, keeps what it has.
    """

    name: ClassVar[str] = "dpn"
    title: ClassVar[str] = "Deep Polarized Network"
    source: ClassVar[str] = "Fan, Ng, Ju, Zhang and Chan, Deep Polarized Network, IJCAI 2020, section 3"
    Settings = DPNSettings
    main_weight: ClassVar[str | None] = "margin"
    # The sum over bits makes the first steps large; without it networks from scratch lose classes.
    recipe: ClassVar[Mapping[str, Any]] = {"optim.clip_norm": 2.0}

    def __init__(self, settings: DPNSettings, spec: Spec, centers: Tensor | None = None) -> None:
        super().__init__(settings, spec, centers)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        self.center_loss = DPNLoss(settings.margin)

    def begin_epoch(self, everything: Pass) -> None:
        every = self.settings.update_every
        if every is None or everything.epoch == 0 or everything.epoch % every:
            return
        sums, _ = class_sums(signs(everything.outputs()), everything.labels, len(self.centers))
        sums = sums.to(self.centers.device)
        self.centers.copy_(torch.where(sums == 0, self.centers, sums.sign().to(self.centers.dtype)))

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`DPNLoss` against the first bits of the centers."""
        centers = self.centers[:, : outputs.shape[1]]
        return self.center_loss(outputs, step.labels, centers, gather=step.gather)
