"""The autograd Function of class_softmax_loss where nothing transforms; _loss_transforms.py has the others."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _cuda_ops, _direct
from ._loss_formulas import n_kept_rows, summed
from ._torch_threads import torch_steps

_op = torch.ops.dshc_fast


def reduced(loss: Tensor, labels: Tensor, ignore_index: int, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    return summed(loss, n_kept_rows(labels, ignore_index) if reduction == "mean" else None)


class ClassSoftmaxLossFunction(torch.autograd.Function):
    """The reduced loss; the gradient is (sum y) p - y, times what comes from above. Reduced in here, because a small
    batch takes longer in autograd's steps than in the kernels.

    `with_gradient`: forward makes the gradient too, of the mean or sum itself: what backward is asked for where nothing
    but 1 comes from above, as in training. The first backward hands it on then; any other factor, and any later
    backward, compute it anew. On CUDA a kernel looks at the factor, so that nobody waits for it; and a backward that is
    recorded into a CUDA graph without its forward computes anew, or a second replay would find what the first has
    changed. In place backward
    writes the gradient over the logits, which counts as a change to them: torch refuses whatever else needs their
    values later."""

    @staticmethod
    def forward(
        ctx,
        logits: Tensor,
        labels: Tensor,
        class_offsets: Tensor,
        weight: float,
        ignore_index: int,
        check: bool | None,
        inplace: bool,
        reduction: str,
        with_gradient: bool,
    ) -> Tensor:
        arguments = logits, labels, class_offsets, weight, ignore_index, check
        ctx.weight, ctx.ignore_index, ctx.inplace, ctx.reduction = weight, ignore_index, inplace, reduction
        if reduction != "none":
            made = _direct.reduced_loss(*arguments, reduction == "mean", with_gradient)
            if made is not None:
                reduced, stats, gradient = made
                ctx.made, ctx.on_gpu = [] if gradient is None else [gradient], False
                ctx.save_for_backward(logits, stats, labels, class_offsets, None)
                return reduced
        with torch_steps():
            n_kept = n_kept_rows(labels, ignore_index) if reduction == "mean" else None
        ctx.on_gpu = with_gradient and _direct.on_one_gpu(logits, labels, class_offsets)
        gradient = None
        if ctx.on_gpu:
            ctx.capture = _cuda_ops.capture_id(logits)
            loss, stats, gradient = _cuda_ops.loss_and_gradient(*arguments, n_kept)
        else:
            loss, stats = _direct.run("class_softmax_loss", *arguments)
        ctx.made = [] if gradient is None else [gradient]
        ctx.save_for_backward(logits, stats, labels, class_offsets, n_kept)
        with torch_steps():
            return loss if reduction == "none" else summed(loss, n_kept)

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        logits, stats, labels, class_offsets, n_kept = ctx.saved_tensors
        saved, options = (logits, stats, labels, class_offsets), (ctx.weight, ctx.ignore_index)
        # Given away once, as whoever gets it may write to it. A list: compiled autograd runs backward with another ctx,
        # of which only what it refers to is the same.
        gradient = ctx.made.pop() if ctx.made else None
        if gradient is not None and (torch.is_grad_enabled() or not _direct.is_seen_by_nobody(grad_loss)):
            gradient = None
        if gradient is not None and ctx.on_gpu:
            if ctx.capture == _cuda_ops.capture_id(logits):
                gradient = _cuda_ops.rescale_gradient(gradient, grad_loss, *saved, *options, n_kept)
                return gradient, *_NO_GRADIENTS
            gradient = None
        elif gradient is not None and float(grad_loss) == 1.0:
            return gradient, *_NO_GRADIENTS
        if ctx.reduction != "none":
            with torch_steps():
                if ctx.reduction == "mean" and n_kept is None:
                    n_kept = n_kept_rows(labels, ctx.ignore_index)
                grad_loss = (grad_loss if n_kept is None else grad_loss / n_kept).expand(logits.shape[0])
        arguments = grad_loss, *saved, *options
        # Gradients that are to be differentiated again need the logits; a compiler plans its memory itself.
        if ctx.inplace and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            _op.class_softmax_loss_backward_(*arguments)
            torch.autograd.graph.increment_version(logits)
            gradient = logits.detach()
        elif torch.is_grad_enabled():  # of create_graph=True: the registered op has a graph
            gradient = _op.class_softmax_loss_backward(*arguments)
        else:
            gradient = _direct.loss_gradient(*arguments, room=gradient)
        return gradient, *_NO_GRADIENTS


_NO_GRADIENTS = (None,) * 8


def makes_gradient(logits: Tensor, inplace: bool, reduction: str) -> bool:
    """Whether forward is to make the gradient too. Not in float16: gradient scalers enlarge the loss so that its
    gradients can be written in it at all, and their factor comes in backward."""
    return (
        not torch.compiler.is_compiling()
        and reduction != "none"
        and not inplace
        and logits.requires_grad
        and torch.is_grad_enabled()
        and logits.dtype != torch.float16
        and _direct.keeps_what_is_saved()
    )
