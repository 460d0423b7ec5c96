"""Derivatives of the class soft-max loss's gradient, in plain torch: few ask for them, and torch differentiates those.

The gradient of a row is g (T p - y): g what comes from above, p the soft-max, y the target, T its sum. A row that is
ignored (or has no class) has gradient 0, whatever it holds: what it holds is replaced before anything is computed,
because 0 times NaN is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes


def kept_rows(labels: Tensor, class_offsets: Tensor, ignore_index: int) -> Tensor:
    """Which rows have a loss, bool (n, 1): not those ignored, nor those whose label, unchecked, is no class."""
    labels = checks.signed_labels(labels)[:, None]
    return (labels != ignore_index) & (labels >= 0) & (labels < class_offsets.shape[0] - 1)


def n_kept_rows(labels: Tensor, ignore_index: int) -> Tensor:
    """What a mean is over: the rows that are not ignored."""
    return (checks.signed_labels(labels) != ignore_index).sum()


def summed(loss: Tensor, n_kept: Tensor | None) -> Tensor:
    """The sum of the rows' losses, or their mean. On the CPU in float64, as the kernel that reduces does: what a
    compiler or a transform makes of a call is then the same float32. On a GPU that would take a step more."""
    total = loss.sum(dtype=torch.float64) if loss.is_cpu else loss.sum()
    return (total if n_kept is None else total / n_kept).to(loss.dtype)


def without_lost_rows(rows: Tensor, kept: Tensor) -> Tensor:
    """Zeros in the rows that have no loss. Nothing is looked at, so nothing waits for a device."""
    return rows.masked_fill(~kept, 0)


class RowTerms:
    """p, y and T of each row, in the dtype that the loss is computed in."""

    def __init__(
        self, logits: Tensor, labels: Tensor, class_offsets: Tensor, weight: float, ignore_index: int
    ) -> None:
        self.kept = kept_rows(labels, class_offsets, ignore_index)
        self.dtype = shapes.loss_dtype(logits)
        offsets, n_classes = class_offsets.long(), class_offsets.shape[0] - 1
        true_class = checks.signed_labels(labels)[:, None].clamp(0, n_classes - 1)
        first, last = offsets[true_class], offsets[true_class + 1]
        position = torch.arange(logits.shape[1], device=logits.device)
        of_one = 1.0 / (last - first).to(self.dtype) if weight == 0.0 else weight
        self.target_sum = of_one * (last - first).to(self.dtype)
        p = torch.softmax(self.clean(logits), dim=1)
        self.p = without_lost_rows(p, self.kept)
        zero = torch.zeros((), dtype=self.dtype, device=logits.device)
        self.y = torch.where(self.kept & (position >= first) & (position < last), of_one, zero)

    def clean(self, rows: Tensor) -> Tensor:
        return without_lost_rows(rows.to(self.dtype), self.kept)

    def soft_max_derivative(self, rows: Tensor) -> Tensor:
        """T times the soft-max's derivative along `rows`; its matrix is symmetric, so it serves both directions."""
        return self.target_sum * self.p * (rows - (self.p * rows).sum(1, keepdim=True))


def gradient_vjp(
    above: Tensor,
    grad_loss: Tensor,
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """What `above`, the gradient of the gradient (n, n_subclasses), gives in `grad_loss` and in `logits`."""
    terms = RowTerms(logits, labels, class_offsets, weight, ignore_index)
    above, grad_loss = terms.clean(above), terms.clean(grad_loss[:, None])
    in_grad_loss = ((terms.target_sum * terms.p - terms.y) * above).sum(1)
    return in_grad_loss, (grad_loss * terms.soft_max_derivative(above)).to(logits.dtype)


def gradient_jvp(
    grad_loss_tangent: Tensor | None,
    logits_tangent: Tensor | None,
    grad_loss: Tensor,
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
) -> Tensor:
    """How the gradient changes along the tangents; None: they are 0."""
    terms = RowTerms(logits, labels, class_offsets, weight, ignore_index)
    tangent = torch.zeros_like(terms.p)
    if grad_loss_tangent is not None:
        tangent = tangent + terms.clean(grad_loss_tangent[:, None]) * (terms.target_sum * terms.p - terms.y)
    if logits_tangent is not None:
        along = terms.soft_max_derivative(terms.clean(logits_tangent))
        tangent = tangent + terms.clean(grad_loss[:, None]) * along
    return tangent.to(logits.dtype)
