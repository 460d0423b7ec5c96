"""The autograd Function of class_softmax_loss where nothing transforms; _loss_transforms.py has the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _cuda_ops, _direct
from ._arguments import has_memory
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

    `with_gradient`: forward makes the gradient too, of the mean or sum itself, which is what backward is asked for
    most often. The first backward hands it on: on the CPU as it is or times a power of two, so that it is what
    backward would have computed; on CUDA after a kernel that looks whether anything but 1 comes from above. Any other
    factor and any later backward compute it anew. In place backward writes it over the
    logits, which counts as a change to them: torch refuses whatever else needs their values later."""

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
                reduced, stats, ctx.gradient = made
                ctx.on_gpu = False
                ctx.save_for_backward(logits, stats, labels, class_offsets, None)
                return reduced
        with torch_steps():
            n_kept = n_kept_rows(labels, ignore_index) if reduction == "mean" else None
        ctx.on_gpu = with_gradient and _direct.on_one_gpu(logits, labels, class_offsets)
        if ctx.on_gpu:
            loss, stats, ctx.gradient = _cuda_ops.loss_and_gradient(*arguments, n_kept)
        else:
            loss, stats = _direct.run("class_softmax_loss", *arguments)
            ctx.gradient = None
        ctx.save_for_backward(logits, stats, labels, class_offsets, n_kept)
        with torch_steps():
            return loss if reduction == "none" else summed(loss, n_kept)

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        logits, stats, labels, class_offsets, n_kept = ctx.saved_tensors
        saved, options = (logits, stats, labels, class_offsets), (ctx.weight, ctx.ignore_index)
        gradient, ctx.gradient = ctx.gradient, None
        # Not where gradients are to be differentiated, a compiler reads this, or grad_loss stands for a batch.
        is_plain = not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and has_memory(grad_loss)
        if gradient is not None and is_plain:
            if ctx.on_gpu:
                gradient = _cuda_ops.rescale_gradient(gradient, grad_loss, *saved, *options, n_kept)
                return gradient, *_NO_GRADIENTS
            if _is_power_of_two(factor := float(grad_loss)):
                return _multiplied(gradient, factor), *_NO_GRADIENTS
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
            grad_logits = logits.detach()
        elif torch.is_grad_enabled():  # of create_graph=True: the registered op has a graph
            grad_logits = _op.class_softmax_loss_backward(*arguments)
        else:
            grad_logits = _direct.loss_gradient(*arguments)
        return grad_logits, *_NO_GRADIENTS


_NO_GRADIENTS = (None,) * 8


def _is_power_of_two(factor: float) -> bool:
    """Or the negative of one: what changes no digit of a number."""
    return abs(math.frexp(factor)[0]) == 0.5


def _multiplied(gradient: Tensor, factor: float) -> Tensor:
    with torch_steps():
        return gradient if factor == 1.0 else gradient.mul_(factor)


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
