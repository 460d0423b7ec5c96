"""What losses over triplets share: all triplets of a batch, and the methods that are trained by them.

A triplet is a query q, a positive p (another item that shares a class or a label with q) and a negative n (one that
shares none). All losses here see its outputs in one number, the gap <u_q, u_p> - <u_q, u_n>.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..settings import setting
from .base import PerClass, Spec, Step
from .dpsh import small_head
from .pairs import batch_pairs, own_rows
from .signs import SignMethod, SignSettings

__all__ = ["GapLoss", "TripletMethod", "TripletSettings", "triplet_mean"]

GapLoss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A loss of a gap and its derivative, each for every entry of a tensor: new tensors, which are written over."""

_CHUNK = 1 << 21  # triplets at a time: a handful of float32 of that size live together, 8 MiB each
_MANY_CLASSES, _GROUP = 32, 8


def triplet_mean(
    rows: Tensor,
    labels: Tensor,
    loss: GapLoss,
    *,
    items: Tensor | None = None,
    gather: Callable[[Tensor], Tensor] = own_rows,
    own: slice = slice(None),
) -> Tensor:
    """The mean of a loss of gaps over all triplets of a batch, 0-d, differentiable once; 0 where there is none.

    Args:
        rows: float ``(b, L)``; gaps are differences of their inner products.
        labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``. An item without labels is a negative of every
            query, and no query itself, for it has no positives.
        loss: what a gap costs, and the derivative.
        items: int64 ``(b,)``, numbers by which an item is known: none is its own positive. None: every row is
            another item; must be given with a ``gather`` over several processes.
        gather, own: as a :class:`~dshc.methods.Step` has them. Each process takes the triplets of its own queries,
            with positives and negatives of all processes. The mean over processes of the losses, and of their
            gradients, is that of one process with all rows: a row gets its gradient as a positive or negative of
            other processes' queries too. All have batches of one size.

    The mean is over triplets: a query counts by how many it has. For b rows of n in all and at most P positives of a
    query: time O(b n (L + P)); memory O((b + L) n), n^2 over several processes, and some chunks of triplets.
    float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
    """
    with torch.autocast(rows.device.type, enabled=False):
        pairs = batch_pairs(rows, labels, items, gather)
        n, b = len(pairs.others), len(pairs.rows)
        if len(pairs.others[own]) != b:
            raise ValueError(f"own must say which of the {n} gathered rows are this process's {b}, got {own}")
        similar = pairs.similar
        positive, negative = similar & pairs.counted, ~similar
        n_triplets = gather(positive.sum(1) * negative.sum(1)).sum()
        weight = n / max(b, 1) / n_triplets.clamp(min=1).to(pairs.rows.dtype)
        return _Triplets.apply(pairs.rows, pairs.others, positive, negative, loss, weight, gather, own)


class _Triplets(torch.autograd.Function):
    """The weighted sum over triplets; its gradient is made on the way, so that no triplet is kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        everyone: Tensor,
        positive: Tensor,
        negative: Tensor,
        loss: GapLoss,
        weight: Tensor,
        gather: Callable[[Tensor], Tensor],
        own: slice,
    ) -> Tensor:
        total, slopes = _sum(rows @ everyone.T, positive, negative, loss)
        slopes *= weight
        # By the products of this process's queries with its rows, and of all queries with them.
        either = slopes + gather(slopes)[:, own].T
        ctx.save_for_backward(either @ everyone)
        return (total * weight).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, *(None,) * 7


def _sum(products: Tensor, positive: Tensor, negative: Tensor, loss: GapLoss) -> tuple[Tensor, Tensor]:
    """The sum of the loss over triplets, float64 0-d, and its derivative by the products, ``(b, n)``."""
    total, slopes = products.new_zeros((), dtype=torch.float64), torch.zeros_like(products)
    n_positive = positive.sum(1, keepdim=True)
    most = int(n_positive.max()) if positive.numel() else 0
    # Every query's positives side by side: the triplets are then a block of few holes.
    places = positive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    there = torch.arange(most, device=products.device) < n_positive
    size = max(1, _CHUNK // max(products.numel(), 1))
    for place, real in zip(places.split(size, 1), there.split(size, 1), strict=True):
        values, slope = loss(products.gather(1, place)[:, :, None] - products[:, None, :])
        left_out = ~(real[:, :, None] & negative[:, None, :])
        total += values.masked_fill_(left_out, 0).sum(dtype=torch.float64)
        slope = slope.masked_fill_(left_out, 0)
        slopes.scatter_add_(1, place, slope.sum(2))
        slopes -= slope.sum(1)
    return total, slopes


class TripletSettings(SignSettings):
    """Settings of every method that is trained by triplets."""

    items_per_class: int | None = setting(
        None,
        f"items of each class in a batch (default: {_GROUP} from {_MANY_CLASSES} classes on, else random batches)",
        ge=2,
        le=100_000,
    )


class TripletMethod(SignMethod):
    """A method trained by triplets. The head is linear; ``triplet_loss`` is the method's loss as a module.

    Random batches of many classes hold few positives: from 32 classes on, batches are 8 items of each of some classes
    where items have one class each. With several labels per item, batches are random.
    """

    triplet_loss: nn.Module

    def __init__(self, settings: TripletSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = small_head(spec.n_features, self.n_bits)

    @property
    def sampling(self) -> PerClass | None:
        """Batches of some items of each class, where settings or the number of classes ask for them."""
        asked = self.settings.items_per_class
        if asked is None and self.spec.label_kind == "ids" and self.spec.n_classes >= _MANY_CLASSES:
            asked = _GROUP
        return None if asked is None else PerClass(asked)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """The method's loss over the triplets of all processes' batches."""
        return self.triplet_loss(outputs, step.labels, items=step.items, gather=step.gather, own=step.own)
