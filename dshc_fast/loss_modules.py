"""The losses as nn.Modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import _checks as checks
from . import _shapes as shapes
from .codes import as_offsets
from .losses import REDUCTIONS, class_softmax_linear_loss, class_softmax_loss, target_weight_of


class ClassSoftmaxLoss(nn.Module):
    """`class_softmax_loss` as a module; `class_offsets` is a buffer and moves with it.

    Args:
        class_offsets, target, reduction, ignore_index, inplace: as in `class_softmax_loss`.

    Example:
        >>> import torch, dshc_fast
        >>> loss = dshc_fast.ClassSoftmaxLoss([0, 2, 5])
        >>> loss(torch.zeros(1, 5), torch.tensor([1])).item()
        1.6094379425048828
    """

    class_offsets: Tensor

    def __init__(
        self,
        class_offsets: object,
        *,
        target: str | float = "normalized",
        reduction: str = "mean",
        ignore_index: int = -100,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        checks.check_bool(inplace, "inplace")
        self.inplace = inplace
        target_weight_of(target)
        checks.check_choice(reduction, "reduction", REDUCTIONS)
        offsets = as_offsets(class_offsets, torch.device("cpu")).clone()
        checks.check_class_offsets(offsets)
        if offsets.is_meta:
            raise ValueError("class_offsets must be on cpu or cuda, got meta")
        checks.check_offset_values(offsets, int(offsets[-1]))
        self.register_buffer("class_offsets", offsets)
        self.target, self.reduction = target, reduction
        self.ignore_index = checks.as_ignore_index(ignore_index)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return class_softmax_loss(
            logits,
            labels,
            self.class_offsets,
            target=self.target,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            inplace=self.inplace,
        )

    def extra_repr(self) -> str:
        return (
            f"n_classes={len(self.class_offsets) - 1}, target={self.target!r}, reduction={self.reduction!r}, "
            f"ignore_index={self.ignore_index}"
        )


class ClassSoftmaxLinearLoss(ClassSoftmaxLoss):
    """`class_softmax_linear_loss` as a module; the linear layer stays where it is, and is handed in.

    Args:
        class_offsets, target, reduction, ignore_index, chunk: as in `class_softmax_linear_loss`.

    Example:
        >>> import torch, dshc_fast
        >>> head, loss = torch.nn.Linear(3, 5), dshc_fast.ClassSoftmaxLinearLoss([0, 2, 5])
        >>> loss(torch.ones(1, 3), head.weight * 0, head.bias * 0, torch.tensor([1])).item()
        1.6094379425048828
    """

    def __init__(
        self,
        class_offsets: object,
        *,
        target: str | float = "normalized",
        reduction: str = "mean",
        ignore_index: int = -100,
        chunk: int | None = None,
    ) -> None:
        super().__init__(class_offsets, target=target, reduction=reduction, ignore_index=ignore_index)
        self.chunk = None if chunk is None else checks.as_int(chunk, "chunk")
        shapes.check_chunk(self.chunk)

    def forward(  # type: ignore[override]  # of a layer, not of its logits
        self, features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> Tensor:
        return class_softmax_linear_loss(
            features,
            weight,
            bias,
            labels,
            self.class_offsets,
            target=self.target,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            chunk=self.chunk,
        )
