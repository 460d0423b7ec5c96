"""The class soft-max loss of DSHC."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from . import _checks as checks
from ._arrays import Array, answer, as_tensor
from .codes import as_offsets

_op = torch.ops.dshc_fast
REDUCTIONS = ("none", "mean", "sum")


class _ClassSoftmaxLoss(torch.autograd.Function):
    """Loss a row; the gradient is (sum y) p - y, times what comes from above."""

    @staticmethod
    def forward(
        ctx,
        logits: Tensor,
        labels: Tensor,
        class_offsets: Tensor,
        weight: float,
        ignore_index: int,
        check: bool | None,
    ) -> Tensor:
        loss, stats = _op.class_softmax_loss(logits, labels, class_offsets, weight, ignore_index, check)
        ctx.save_for_backward(logits, stats, labels, class_offsets)
        ctx.weight, ctx.ignore_index = weight, ignore_index
        return loss

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        logits, stats, labels, class_offsets = ctx.saved_tensors
        grad_logits = _op.class_softmax_loss_backward(
            grad_loss, logits, stats, labels, class_offsets, ctx.weight, ctx.ignore_index
        )
        return grad_logits, None, None, None, None, None


def _weight_of(target: object) -> float:
    """0 stands for 1 / m_c in the op."""
    if isinstance(target, str):
        checks.check_choice(target, "target", ("normalized",))
        return 0.0
    if isinstance(target, (bool, Tensor)) or not hasattr(target, "__float__"):
        raise TypeError(f'target must be "normalized" or a number, got {type(target).__name__}')
    weight = float(target)
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f'target is {weight}; taken: "normalized" or a finite number > 0')
    return weight


def class_softmax_loss(
    logits: Array,
    labels: Array,
    class_offsets: object,
    *,
    target: str | float = "normalized",
    reduction: str = "mean",
    ignore_index: int = -100,
    check: bool | None = None,
) -> Array:
    """Cross-entropy over sub-classes against the uniform target on the true class's run (DSHC, Luo et al.,
    eq. 2).

    The loss of a row is ``-sum_j y_j log p_j`` with p the soft-max over all sub-classes, y_j the target
    weight for the m_c sub-classes of the row's class and 0 elsewhere. The weights need not sum to one: the
    gradient is (sum y) p - y. Computed in float32 (float64 for float64 logits).

    Args:
        logits: (n, n_subclasses) float32, float64, float16 or bfloat16; sub-classes lie class by class.
        labels: (n,) class ids, any integer dtype.
        class_offsets: (n_classes + 1,) integers, rising from 0 to n_subclasses; list, numpy or torch.
        target: "normalized": each sub-class of the true class gets 1 / m_c; or the weight each of them gets
            (the paper: 1 / H).
        reduction: "none", "mean" (over rows that are not ignored; NaN when none is left) or "sum".
        ignore_index: rows with this label give loss 0 and gradient 0, whatever they hold.
        check: whether labels are checked to name a class; None: on the CPU yes, on CUDA no.

    Returns:
        float32 (float64 for float64 logits), 0-d, or (n,) for "none". -inf outside the true class's run is
        probability 0; other non-finite logits give a non-finite loss and no error, as gradient scalers expect.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import torch, dshc_fast
        >>> logits = torch.zeros(2, 5, requires_grad=True)
        >>> loss = dshc_fast.class_softmax_loss(logits, torch.tensor([0, 1]), [0, 2, 5])
        >>> loss.backward()
        >>> loss.item(), logits.grad[0]
        (1.6094379425048828, tensor([-0.1500, -0.1500,  0.1000,  0.1000,  0.1000]))
    """
    checks.check_choice(reduction, "reduction", REDUCTIONS)
    checks.check_flag(check, "check")
    weight, ignore_index = _weight_of(target), checks.as_int(ignore_index, "ignore_index")
    logits_tensor, labels_tensor = as_tensor(logits, "logits"), as_tensor(labels, "labels")
    offsets = as_offsets(class_offsets, logits_tensor.device)
    loss = _ClassSoftmaxLoss.apply(logits_tensor, labels_tensor, offsets, weight, ignore_index, check)
    if reduction == "sum":
        loss = loss.sum()
    elif reduction == "mean":
        loss = loss.sum() / (checks.signed_labels(labels_tensor) != ignore_index).sum()
    return answer(loss, logits)


class ClassSoftmaxLoss(nn.Module):
    """`class_softmax_loss` as a module; `class_offsets` is a buffer and moves with it.

    Args:
        class_offsets, target, reduction, ignore_index: as in `class_softmax_loss`.

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
    ) -> None:
        super().__init__()
        _weight_of(target)
        checks.check_choice(reduction, "reduction", REDUCTIONS)
        offsets = as_offsets(class_offsets, torch.device("cpu")).clone()
        checks.check_class_offsets(offsets)
        checks.check_offset_values(offsets, int(offsets[-1]))
        self.register_buffer("class_offsets", offsets)
        self.target, self.reduction = target, reduction
        self.ignore_index = checks.as_int(ignore_index, "ignore_index")

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return class_softmax_loss(
            logits,
            labels,
            self.class_offsets,
            target=self.target,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
        )

    def extra_repr(self) -> str:
        return (
            f"n_classes={len(self.class_offsets) - 1}, target={self.target!r}, reduction={self.reduction!r}, "
            f"ignore_index={self.ignore_index}"
        )
