"""The CUDA implementations of the loss on logits; as _cuda_ops.py says, which registers them."""

from __future__ import annotations

from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes
from ._arguments import first_true, place, wants_check
from ._logit_arguments import ClassSoftmax
from ._native import native
from ._ops import check_inplace_backward, check_loss_backward


def capture_id(tensor: Tensor) -> int:
    """Of the CUDA graph that is recorded on the current stream of the tensor's device; 0 where none is."""
    return native.cuda.capture_id(*place(tensor))


def check_offset_values(class_offsets: Tensor, n_subclasses: int) -> None:
    checks.check_offset_values(class_offsets.cpu(), n_subclasses)


def check_label_values(labels: Tensor, class_offsets: Tensor, ignore_index: int, n_subclasses: int) -> None:
    check_offset_values(class_offsets, n_subclasses)
    wide = checks.signed_labels(labels)
    wrong = (wide != ignore_index) & ((wide < 0) | (wide >= class_offsets.shape[0] - 1))
    if (row := first_true(wrong)) is not None:
        raise ValueError(
            f"labels[{row}] must be a class id from 0 to {class_offsets.shape[0] - 2}, or ignore_index, "
            f"got {int(wide[row])}"
        )


def _class_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
    check: bool | None = None,
) -> tuple[Tensor, Tensor]:
    loss, stats = shapes.class_softmax_loss(logits, labels, class_offsets)
    if wants_check(check, logits):
        check_label_values(labels, class_offsets, ignore_index, logits.shape[1])
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    native.cuda.class_softmax_loss(task.native, 0, loss.data_ptr(), stats.data_ptr(), *place(logits))
    return loss, stats


def _loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
    check: bool | None,
    n_kept: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """class_softmax_loss, and the gradient of its sum, over n_kept (0-d int64) if given."""
    loss, stats = shapes.class_softmax_loss(logits, labels, class_offsets)
    if wants_check(check, logits):
        check_label_values(labels, class_offsets, ignore_index, logits.shape[1])
    gradient = logits.new_empty(logits.shape)
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    task.to_loss_and(gradient, n_kept, loss, stats)
    return loss, stats, gradient


def _rescale_gradient(
    gradient: Tensor,
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
    n_kept: Tensor | None,
) -> Tensor:
    """The gradient of _loss_and_gradient times grad_loss (0-d), in place. Nobody waits for that number: the kernel
    looks, and is done where it is 1."""
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    native.cuda.class_softmax_loss_rescale(
        task.native, stats.data_ptr(), grad_loss.data_ptr(), 0 if n_kept is None else n_kept.data_ptr(),
        gradient.data_ptr(), *place(logits),
    )  # fmt: skip
    return gradient


def _class_softmax_loss_backward(
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
) -> Tensor:
    grad_logits = check_loss_backward(grad_loss, logits, stats, labels, class_offsets)
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    grad_loss, stats = grad_loss.contiguous(), stats.contiguous()
    native.cuda.class_softmax_loss_backward(
        task.native, stats.data_ptr(), grad_loss.data_ptr(), grad_logits.data_ptr(), *place(logits)
    )
    return grad_logits


def _class_softmax_loss_backward_(
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
) -> None:
    check_inplace_backward(grad_loss, logits, stats, labels, class_offsets)
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    task.to_gradient(grad_loss.contiguous(), stats.contiguous())
