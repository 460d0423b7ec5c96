"""CSQ: every bit is drawn to that of a center, by a likelihood.

Yuan et al., *Central Similarity Quantization for Efficient Image and Video Retrieval*, CVPR 2020, section 3. With
h = tanh(u) and the target c in {-1, 1}^L of an item (:mod:`.centers`) the loss is

    mean over items and bits of  BCE((h + 1) / 2, (c + 1) / 2)  +  lambda (|h| - 1)^2

where BCE(p, t) = -t log p - (1 - t) log(1 - p). Since (tanh(u) + 1) / 2 is the logistic function of 2 u, the first term
is log(1 + exp(-2 c u)). lambda is called ``eta`` here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..settings import setting
from .base import Spec, Step, in_full
from .centers import (
    CenterMethod,
    CenterSettings,
    check_batch,
    labelled_mean,
    target_codes,
)
from .pairs import own_rows

__all__ = ["CSQ", "CSQLoss"]


class CSQSettings(CenterSettings):
    """Settings of CSQ."""

    name: Literal["csq"] = "csq"
    eta: float = setting(0.05, "weight of the distance of outputs from their signs", ge=0)


class CSQLoss(nn.Module):
    """The loss of some outputs against centers, as a module of its own.

    The mean over items and bits, as in the authors' released code; ``eta`` = 0.05 is what it takes for ResNet (AlexNet:
    0.001 or less). The paper writes the second term as log cosh(|h| - 1), of which this is the square beside it in
    that code; its term over pairs has weight 0 there and is left out.
    """

    def __init__(self, eta: float = 0.05) -> None:
        super().__init__()
        if not 0 <= eta < float("inf"):
            raise ValueError(f"eta must be at least 0 and finite, got {eta}")
        self.eta = eta

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        centers: Tensor,
        *,
        ties: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = own_rows,
    ) -> Tensor:
        """The loss, 0-d.

        Args:
            outputs: u, before the tanh, float ``(b, L)``.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``; rows without labels are left out.
            centers: -1 and 1, ``(C, L)``.
            ties: -1 and 1, ``(L,)``: see :func:`~dshc.methods.centers.target_codes`.
            gather: the rows of all processes; counts the rows with labels.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        check_batch(outputs, labels, centers)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            targets = target_codes(labels, centers, ties).to(outputs.dtype)
            distance = (torch.tanh(outputs).abs() - 1).square()
            losses = (self.eta * distance - logsigmoid(2 * targets * outputs)).mean(dim=1)
            return labelled_mean(losses, labels, gather)


class CSQ(CenterMethod):
    """CSQ. The head is linear; ``outputs`` are u, before the tanh.

    The paper's centers are "hadamard", and its head has two hidden layers more, with dropout. The class that
    :meth:`predict` gives is the likeliest by the first term: the likelihoods of two centers differ by the difference of
    their inner products with 2 u.
    """

    name: ClassVar[str] = "csq"
    title: ClassVar[str] = "Central Similarity Quantization"
    source: ClassVar[str] = "Yuan et al., Central Similarity Quantization, CVPR 2020, section 3"
    Settings = CSQSettings
    main_weight: ClassVar[str | None] = "eta"

    def __init__(self, settings: CSQSettings, spec: Spec, centers: Tensor | None = None) -> None:
        super().__init__(settings, spec, centers)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        self.center_loss = CSQLoss(settings.eta)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`CSQLoss` against the first bits of the centers."""
        n_bits = outputs.shape[1]
        centers, ties = self.centers[:, :n_bits], self.ties[:n_bits]
        return self.center_loss(outputs, step.labels, centers, ties=ties, gather=step.gather)

    def relaxed(self, outputs: Tensor) -> Tensor:
        """tanh(u)."""
        return torch.tanh(self.transformed(outputs))
