"""Which items belong together, from their labels: the s_ij of losses over pairs and triplets."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["jaccard", "similar"]


def similar(labels: Tensor, others: Tensor) -> Tensor:
    """Whether items share a class or a label, bool ``(b, n)``.

    Class ids int64 ``(b,)`` and ``(n,)``, or multi-hot ``(b, C)`` and ``(n, C)``; an item without labels is similar
    to none.
    """
    if labels.ndim == 1:
        return labels[:, None] == others[None, :]
    return labels.float() @ others.float().T > 0


def jaccard(labels: Tensor, others: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """How far items' label sets agree: labels in common over labels of either, ``(b, n)``.

    Class ids int64 ``(b,)`` and ``(n,)``: 1 where they are equal, else 0. Multi-hot ``(b, C)`` and ``(n, C)``; an item
    without labels has 0 with all.
    """
    if labels.ndim == 1:
        return (labels[:, None] == others[None, :]).to(dtype)
    labels, others = labels.to(dtype), others.to(dtype)
    common = labels @ others.T
    either = labels.sum(1)[:, None] + others.sum(1) - common
    return common / either.clamp(min=1)
