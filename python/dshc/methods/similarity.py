"""Which items belong together, from their labels: the s_ij of losses over pairs and triplets."""

from __future__ import annotations

import torch
from torch import Tensor

import dshc_fast

__all__ = ["jaccard", "similar"]

_MOST_PACKED = 4096  # labels that fit into one code


def similar(labels: Tensor, others: Tensor) -> Tensor:
    """Whether items share a class or a label, bool ``(b, n)``.

    Class ids int64 ``(b,)`` and ``(n,)``, or multi-hot ``(b, C)`` and ``(n, C)``; an item without labels is similar
    to none.
    """
    if labels.ndim == 1:
        return labels[:, None] == others[None, :]
    return _in_common(labels, others) > 0


def jaccard(labels: Tensor, others: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """How far items' label sets agree: labels in common over labels of either, ``(b, n)``.

    Class ids int64 ``(b,)`` and ``(n,)``: 1 where they are equal, else 0. Multi-hot ``(b, C)`` and ``(n, C)``; an item
    without labels has 0 with all.
    """
    if labels.ndim == 1:
        return (labels[:, None] == others[None, :]).to(dtype)
    common = _in_common(labels, others).to(dtype)
    either = _count(labels, dtype)[:, None] + _count(others, dtype) - common
    return common / either.clamp(min=1)


def _in_common(labels: Tensor, others: Tensor) -> Tensor:
    """How many labels two items share, ``(b, n)``: whole numbers of any dtype.

    On the CPU labels are packed into codes, whose overlap it is: a product of matrices takes several times as long.
    """
    if labels.device.type == "cpu" and 0 < labels.shape[1] <= _MOST_PACKED and len(others):
        return dshc_fast.hamming_distance(
            dshc_fast.pack_codes(labels), dshc_fast.pack_codes(others), score="overlap"
        )
    return labels.float() @ others.float().T


def _count(labels: Tensor, dtype: torch.dtype) -> Tensor:
    return labels.sum(1, dtype=torch.float32).to(dtype)
