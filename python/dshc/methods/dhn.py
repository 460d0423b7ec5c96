"""DHN: the likelihood of a batch's pairs, and a penalty that grows like a distance from signs.

Zhu, Long, Wang and Cao, *Deep Hashing Network for Efficient Similarity Retrieval*, AAAI 2016. With z = tanh(u)
the loss is

    sum_ij [ log(1 + exp(<z_i, z_j>)) - s_ij <z_i, z_j> ]  +  lambda sum_ij [ q(z_i) + q(z_j) ],
    q(z) = sum_k log cosh(|z_k| - 1)

where s_ij is 1 for items that share a class or a label. q is the smooth form of sum_k ||z_k| - 1|, minus the
logarithm of a Laplace distribution about -1 and 1. Here lambda is called ``eta``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..settings import setting
from .base import Spec, Step, in_full
from .dpsh import small_head
from .hashnet import HashNet
from .pairs import batch_pairs, own_rows
from .signs import SignMethod, SignSettings

__all__ = ["DHN", "DHNLoss", "log_cosh"]

_ETA = 0.01


class DHNSettings(SignSettings):
    """Settings of DHN."""

    name: Literal["dhn"] = "dhn"
    eta: float = setting(_ETA, "weight of the distance of outputs from their signs", ge=0)


class DHNLoss(nn.Module):
    """The loss of some outputs against each other, as a module of its own.

    Scale: the mean over all pairs i != j. An item is in as many pairs as any other, so that the penalty is 2 ``eta``
    times the mean over items of q, which sums over bits; it is there for a single item too.

    Inner products are neither halved nor divided by their length, as in the paper. The paper finds
    lambda by validation on each set and names none. ``eta`` 0.01 is chosen here; a much larger one holds outputs where
    chance put them, before the likelihood has moved them.
    """

    def __init__(self, eta: float = _ETA) -> None:
        super().__init__()
        if not 0 <= eta < float("inf"):
            raise ValueError(f"eta must be at least 0 and finite, got {eta}")
        self.eta = eta

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        *,
        items: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = own_rows,
    ) -> Tensor:
        """The loss, 0-d, differentiable once.

        ``outputs`` z float ``(b, L)``, in [-1, 1] (after tanh). ``labels``, ``items`` and ``gather``, precision and
        errors: as in :func:`~dshc.methods.pairs.batch_pairs`. The mean of the losses over processes, and of their
        gradients, is that of one process with all rows. Where |z| jumps, at 0, the gradient of q is 0.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            pairs = batch_pairs(outputs, labels, items, gather)
            products = pairs.rows @ pairs.others.T
            # softplus(x) - s x for s in {0, 1}, without overflow.
            likelihood = pairs.mean(softplus(torch.where(pairs.similar, -products, products)))
            penalty = log_cosh(pairs.rows.abs() - 1).sum() / max(len(outputs), 1)
            return likelihood + 2 * self.eta * penalty


class DHN(SignMethod):
    """DHN. The head is DPSH's; ``outputs`` are u, before the tanh."""

    name: ClassVar[str] = "dhn"
    title: ClassVar[str] = "Deep Hashing Network"
    source: ClassVar[str] = (
        "Zhu, Long, Wang and Cao, Deep Hashing Network for Efficient Similarity Retrieval, AAAI 2016"
    )
    Settings = DHNSettings
    label_kinds = ("ids", "multi-hot")
    main_weight: ClassVar[str | None] = "eta"
    # As HashNet, whose likelihood this is.
    recipe = HashNet.recipe

    def __init__(self, settings: DHNSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = small_head(spec.n_features, self.n_bits)
        self.pair_loss = DHNLoss(settings.eta)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`DHNLoss` of tanh(u), over the batches of all processes."""
        outputs = in_full(outputs)  # tanh in bfloat16 would be 1 from 3.5 on
        return self.pair_loss(torch.tanh(outputs), step.labels, items=step.items, gather=step.gather)

    def relaxed(self, outputs: Tensor) -> Tensor:
        """z, which the likelihood compares."""
        return torch.tanh(self.transformed(outputs))


def log_cosh(values: Tensor) -> Tensor:
    """log cosh x, which is x^2 / 2 near 0 and |x| - log 2 far from it, without overflow."""
    size = values.abs()
    return size + softplus(-2 * size) - math.log(2)
