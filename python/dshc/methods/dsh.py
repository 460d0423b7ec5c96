"""DSH: similar items close together, others at least a margin apart.

Liu, Wang, Shan and Chen, *Deep Supervised Hashing for Fast Image Retrieval*, CVPR 2016, equation 4. With the squared
distance d_ij^2 = ||u_i - u_j||^2 the loss is

    sum_(i < j) [ s_ij d_ij^2 / 2  +  (1 - s_ij) max(m - d_ij^2, 0) / 2  +  alpha (r(u_i) + r(u_j)) ],
    r(u) = sum_k ||u_k| - 1|

where s_ij is 1 for items that share a class or a label. Here alpha is called ``eta`` and m ``margin``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Spec, Step
from .pairs import batch_pairs, own_rows
from .signs import SignMethod, SignSettings

__all__ = ["DSH", "DSHLoss"]


class DSHSettings(SignSettings):
    """Settings of DSH."""

    name: Literal["dsh"] = "dsh"
    eta: float = setting(0.01, "weight of the distance of outputs from their signs", ge=0)
    margin: float | None = setting(
        None, "squared distance up to which other items are pushed apart (default: 2 bits)", ge=0
    )


class DSHLoss(nn.Module):
    """The loss of some outputs against each other, as a module of its own.

    Scale: the mean over all pairs i < j. An item is in as many pairs as any other, so that r counts 2 ``eta`` times
    its mean over items; it is there for a single item too. ``eta`` 0.01 and ``margin`` 2 L, which None stands for, are
    the paper's: codes are 4 times as far apart in squared distance as in Hamming distance, so that half of the bits
    must differ. The authors' code has half of the gradient of the two terms over pairs, against the full one of r
    without the 2: together that is half of this gradient.
    """

    def __init__(self, eta: float = 0.01, margin: float | None = None) -> None:
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
    ) -> Tensor:
        """The loss, 0-d, differentiable once, of ``outputs`` u float ``(b, L)``.

        ``labels``, ``items`` and ``gather``, precision and errors: as in :func:`~dshc.methods.pairs.batch_pairs`. The
        mean of the losses over processes, and of their gradients, is that of one process with all rows. Where r has
        an edge, at -1, 0 and 1, its gradient is 0.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            pairs = batch_pairs(outputs, labels, items, gather)
            rows, others = pairs.rows, pairs.others
            products = rows @ others.T
            squares = rows.square().sum(1)[:, None] + others.square().sum(1) - 2 * products
            squares = squares.clamp(min=0)  # rounding may take equal rows below it
            margin = 2 * rows.shape[1] if self.margin is None else self.margin
            distances = torch.where(pairs.similar, squares, (margin - squares).clamp(min=0))
            regularizer = (rows.abs() - 1).abs().sum() / max(len(rows), 1)
            return pairs.mean(distances) / 2 + 2 * self.eta * regularizer


class DSH(SignMethod):
    """DSH. The head is linear, and outputs have no tanh.

    With several ``lengths`` each has its own margin; a ``margin`` that is given holds for all of them.
    """

    name: ClassVar[str] = "dsh"
    title: ClassVar[str] = "Deep Supervised Hashing"
    source: ClassVar[str] = (
        "Liu, Wang, Shan and Chen, Deep Supervised Hashing for Fast Image Retrieval, CVPR 2016, equation 4"
    )
    Settings = DSHSettings
    label_kinds = ("ids", "multi-hot")
    main_weight: ClassVar[str | None] = "eta"

    def __init__(self, settings: DSHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        self.pair_loss = DSHLoss(settings.eta, settings.margin)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`DSHLoss` over the batches of all processes."""
        return self.pair_loss(outputs, step.labels, items=step.items, gather=step.gather)
