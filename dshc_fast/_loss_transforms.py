"""The losses under torch.func (grad, vjp, jvp, vmap, and what is made of them) and forward-mode differentiation.

The kernels are those of a plain call, in autograd Functions of the kind that these transforms need: forward and
setup_context apart, a rule for vmap, one for jvp, and a backward made of Functions of this kind and of plain torch, so
that transforms nest. losses.py's own Function and the registered ops cost half as much per call; they are used where
nothing transforms.

vmap: its batch becomes more rows of one call. Class offsets are one for all. A batch of weights of a linear layer (an
ensemble) has no such form: its members are computed one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._loss_formulas import gradient_jvp, gradient_vjp, kept_rows, without_lost_rows

_op = torch.ops.dshc_fast


def is_transforming() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is under way.

    Under torch.compile such a call is left to eager execution: Dynamo traces no Function with a jvp, and in its place
    it would put the registered op, whose own Function no transform takes (an error up to torch 2.13).
    """
    if not (torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0):
        return False
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.graph_break("dshc_fast: a loss under a transform of torch.func")
    return True


def refuse_batched_offsets(dim: int | None) -> None:
    if dim is not None:
        raise ValueError(
            "class_offsets must be the same for the whole batch of vmap (in_dims=None), got batched ones"
        )


def as_rows(n_batch: int, tensor: Tensor, dim: int | None) -> Tensor:
    """(batch, n, ...) as (batch * n, ...)."""
    whole = tensor.expand(n_batch, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return whole.reshape(n_batch * whole.shape[1], *whole.shape[2:])


def as_batch(n_batch: int, rows: Tensor) -> Tensor:
    return rows.reshape(n_batch, rows.shape[0] // n_batch if n_batch else 0, *rows.shape[1:])


class Loss(torch.autograd.Function):
    """Loss of each row, and the stats that backward reads."""

    @staticmethod
    def forward(
        logits: Tensor,
        labels: Tensor,
        class_offsets: Tensor,
        weight: float,
        ignore_index: int,
        check: bool | None,
    ) -> tuple[Tensor, Tensor]:
        return _op.class_softmax_loss(logits, labels, class_offsets, weight, ignore_index, check)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        logits, labels, class_offsets, ctx.weight, ctx.ignore_index, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(logits, output[1], labels, class_offsets)
        ctx.save_for_forward(logits, output[1], labels, class_offsets)

    @staticmethod
    def backward(ctx, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return Gradient.apply(grad_loss, *ctx.saved_tensors, ctx.weight, ctx.ignore_index), *[None] * 5

    @staticmethod
    def jvp(ctx, logits_tangent: Tensor, *_: None) -> tuple[Tensor, None]:
        return loss_tangent(logits_tangent, *ctx.saved_tensors, ctx.weight, ctx.ignore_index), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        logits, labels, class_offsets, *options = inputs
        refuse_batched_offsets(in_dims[2])
        n_batch = info.batch_size
        rows = (as_rows(n_batch, *pair) for pair in zip((logits, labels), in_dims[:2], strict=True))
        loss, stats = Loss.apply(*rows, class_offsets, *options)
        return (as_batch(n_batch, loss), as_batch(n_batch, stats)), (0, 0)


class Gradient(torch.autograd.Function):
    """Gradient of `Loss` in the logits."""

    @staticmethod
    def forward(
        grad_loss: Tensor,
        logits: Tensor,
        stats: Tensor,
        labels: Tensor,
        class_offsets: Tensor,
        weight: float,
        ignore_index: int,
    ) -> Tensor:
        return _op.class_softmax_loss_backward(
            grad_loss, logits, stats, labels, class_offsets, weight, ignore_index
        )

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        grad_loss, logits, _, labels, class_offsets, ctx.weight, ctx.ignore_index = inputs
        ctx.save_for_backward(grad_loss, logits, labels, class_offsets)
        ctx.save_for_forward(grad_loss, logits, labels, class_offsets)

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor | None, ...]:
        return *gradient_vjp(above, *ctx.saved_tensors, ctx.weight, ctx.ignore_index), *[None] * 5

    @staticmethod
    def jvp(
        ctx, grad_loss_tangent: Tensor | None, logits_tangent: Tensor | None, *_: Tensor | None
    ) -> Tensor:
        return gradient_jvp(
            grad_loss_tangent, logits_tangent, *ctx.saved_tensors, ctx.weight, ctx.ignore_index
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[Tensor, int]:
        *tensors, class_offsets, weight, ignore_index = inputs
        refuse_batched_offsets(in_dims[4])
        rows = (as_rows(info.batch_size, *pair) for pair in zip(tensors, in_dims[:4], strict=True))
        gradient = Gradient.apply(*rows, class_offsets, weight, ignore_index)
        return as_batch(info.batch_size, gradient), 0


def logit_gradient(*inputs: Any) -> Tensor:
    """`Gradient`, or the registered op where nothing transforms."""
    return Gradient.apply(*inputs) if is_transforming() else _op.class_softmax_loss_backward(*inputs)


def loss_tangent(
    logits_tangent: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
) -> Tensor:
    """How the loss of each row changes along a tangent of the logits."""
    kept = kept_rows(labels, class_offsets, ignore_index)
    ones = torch.ones_like(stats[:, 0])
    # In the loss's own dtype: the sum over sub-classes is of terms not rounded to a shorter one.
    gradient = logit_gradient(
        ones, logits.to(stats.dtype), stats, labels, class_offsets, weight, ignore_index
    )
    return (gradient * without_lost_rows(logits_tangent.to(stats.dtype), kept)).sum(1)
